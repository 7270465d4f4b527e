/** The file that CO_CONFIG names: what is not a single value. */
import { readFileSync } from 'node:fs'
import { dirname, isAbsolute, resolve } from 'node:path'
import { parseDocument } from 'yaml'
import { z } from 'zod'
import { Name } from './domain/common.ts'
import { GRANTABLE_CAPABILITIES } from './engine/spec.ts'
import { ConfigError, messageOf } from './errors.ts'
import type { CredentialSet, CredentialSets, SecretSource } from './policy/credentials.ts'
import { BUILT_IN_PROFILES, type NetworkClass, type Profile, type Profiles } from './policy/profiles.ts'

export interface FileSettings {
  profiles: Profiles
  sharedVolumes: readonly string[]
  credentials: CredentialSets
  /** Names under which workers get their identity once more. */
  environmentPrefixes: readonly string[]
}

const VariableName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'letters, digits and "_"')

const ProfileFile = z.strictObject({
  extends: z.string(),
  readonly_root: z.boolean().optional(),
  may_write_root: z.boolean().optional(),
  capabilities: z.array(z.enum(GRANTABLE_CAPABILITIES)).optional(),
  networks: z
    .array(z.enum(['none', 'session', 'internal', 'bridge']))
    .min(1)
    .optional(),
  tmp_mb: z.number().int().min(1).max(65_536).optional(),
  user: z
    .string()
    .regex(/^\d{1,10}(:\d{1,10})?$/, 'numbers, as in "1000:1000"')
    .optional(),
})

const SecretFile = z
  .strictObject({ variable: VariableName.optional(), env_file: z.string().min(1).optional() })
  .nullable()

const hasNoDots = (path: string) => !path.split('/').some((part) => part === '..' || part === '.')

const CredentialTarget = z
  .string()
  .regex(/^(?:~|~?\/[^\0]*)$/, 'an absolute path, or one that begins with "~/"')
  .refine(hasNoDots, 'no "." and ".."')

/** A part of a folder, by its path in there. */
const FolderPart = z
  .string()
  .regex(/^[^/\0][^\0]*$/, 'a relative path')
  .refine(hasNoDots, 'no "." and ".."')

const CredentialsFile = z.strictObject({
  environment: z.record(VariableName, SecretFile).default({}),
  files: z
    .array(
      z.strictObject({
        source: z.string().refine(isAbsolute, 'an absolute path'),
        target: CredentialTarget,
        mode: z.enum(['mount', 'copy']).default('mount'),
        only: z.array(FolderPart).optional(),
        optional: z.boolean().default(false),
      }),
    )
    .default([]),
  git: z.strictObject({ username: z.string().min(1).default('x-access-token'), token: SecretFile.unwrap() }).optional(),
})

const ConfigFile = z.strictObject({
  profiles: z.record(Name, ProfileFile).default({}),
  shared_volumes: z.array(Name).default([]),
  credentials: z.record(Name, CredentialsFile).default({}),
  worker_environment_prefixes: z.array(VariableName).default([]),
})

/** Reads the file, or its defaults where there is none. `environment` is where secrets are taken from. */
export function readConfigFile(
  path: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
): FileSettings {
  const file = parseConfigFile(path)
  // A relative .env file lies beside the file that names it.
  const folder = path === undefined ? '.' : dirname(resolve(path))
  return {
    profiles: profilesOf(file.profiles),
    sharedVolumes: file.shared_volumes,
    credentials: credentialsOf(file.credentials, environment, folder),
    environmentPrefixes: file.worker_environment_prefixes,
  }
}

function parseConfigFile(path: string | undefined): z.infer<typeof ConfigFile> {
  if (path === undefined) return ConfigFile.parse({})
  const content = parseYamlFile(path)
  const parsed = ConfigFile.safeParse(content)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new ConfigError(`CO_CONFIG=${path}: ${issue?.path.join('.')}: ${issue?.message}`)
}

/** A message tells where the fault is, never what stands there: it may be a secret. */
function parseYamlFile(path: string): unknown {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new ConfigError(`CO_CONFIG=${path}: cannot be read: ${messageOf(error)}`)
  }
  const document = parseDocument(text)
  const [fault] = document.errors
  try {
    if (fault === undefined) return document.toJS() ?? {}
  } catch {
    throw new ConfigError(`CO_CONFIG=${path}: is not valid YAML: an alias without an anchor`)
  }
  throw new ConfigError(
    `CO_CONFIG=${path}: is not valid YAML${fault.linePos ? ` at line ${fault.linePos[0].line}` : ''}`,
  )
}

/** The built-in profiles and the operator's, each of which extends one that stands before it. */
function profilesOf(file: z.infer<typeof ConfigFile>['profiles']): Profiles {
  const profiles = new Map<string, Profile>(BUILT_IN_PROFILES.map((profile) => [profile.name, profile]))
  for (const [name, given] of Object.entries(file)) {
    const base = profiles.get(given.extends)
    if (base === undefined)
      throw new ConfigError(`CO_CONFIG: profile "${name}" extends "${given.extends}", which is not known`)
    profiles.set(name, {
      ...base,
      name,
      ...(given.readonly_root === undefined ? {} : { readonlyRoot: given.readonly_root }),
      ...(given.may_write_root === undefined ? {} : { mayWriteRoot: given.may_write_root }),
      ...(given.capabilities === undefined ? {} : { capabilities: given.capabilities }),
      ...(given.networks === undefined ? {} : { networks: new Set<NetworkClass>(given.networks) }),
      ...(given.tmp_mb === undefined ? {} : { tmpBytes: given.tmp_mb * 1024 * 1024 }),
      ...(given.user === undefined ? {} : { user: given.user }),
    })
  }
  return profiles
}

function credentialsOf(
  file: z.infer<typeof ConfigFile>['credentials'],
  environment: Readonly<Record<string, string | undefined>>,
  folder: string,
): CredentialSets {
  const secret = (name: string, given: z.infer<typeof SecretFile>): SecretSource => {
    const variable = given?.variable ?? name
    const envFile = given === null || given.env_file !== undefined ? (given?.env_file ?? '.env') : undefined
    return {
      name: variable,
      value: environment[variable] || undefined,
      envFile: envFile === undefined ? undefined : { path: resolve(folder, envFile), key: variable },
    }
  }
  const sets = Object.entries(file).map(([name, given]): [string, CredentialSet] => {
    const { username, token } = given.git ?? {}
    if (given.git !== undefined && token?.variable === undefined)
      throw new ConfigError(`CO_CONFIG: credentials.${name}.git.token.variable: names the variable with the token`)
    return [
      name,
      {
        name,
        environment: Object.fromEntries(
          Object.entries(given.environment).map(([variable, source]) => [variable, secret(variable, source)]),
        ),
        files: given.files.map(({ only, ...rest }) => ({ ...rest, only })),
        git:
          username === undefined || token === undefined
            ? undefined
            : { username, token: secret(token.variable ?? '', token) },
      },
    ]
  })
  return new Map(sets)
}
