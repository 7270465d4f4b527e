/** The file that CO_CONFIG names: what is not a single value. */
import { readFileSync } from 'node:fs'
import { dirname, isAbsolute, resolve } from 'node:path'
import { parseDocument } from 'yaml'
import { z } from 'zod'
import { ProfileFile, profilesOf } from './config-file/profile-file.ts'
import { Name } from './domain/common.ts'
import { ConfigError, messageOf } from './errors.ts'
import type { CredentialSet, CredentialSets, SecretSource } from './policy/credentials.ts'
import type { Profiles } from './policy/profiles.ts'

export interface FileSettings {
  profiles: Profiles
  sharedVolumes: readonly string[]
  /** Network of the engine by which proxies reach the outside. */
  egressNetwork: string | undefined
  credentials: CredentialSets
  /** Names under which workers get their identity once more. */
  environmentPrefixes: readonly string[]
  build: BuildSettings
}

/** What builds from Dockerfiles in requests may use. */
export interface BuildSettings {
  /** Of what a step runs; `bridge` is the engine's default network, with a way out. */
  readonly network: 'none' | 'bridge'
  /** Of one step. */
  readonly memoryBytes: number
  readonly cpus: number
  /** For the whole build. */
  readonly timeoutSeconds: number
  /** A larger image is removed, and its build failed. */
  readonly maxImageBytes: number | undefined
}

const MIB = 1024 * 1024

const VariableName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'letters, digits and "_"')

/** Bounds of builds from Dockerfiles in requests. */
const BuildFile = z.strictObject({
  network: z.enum(['none', 'bridge']).default('none'),
  memory_mb: z.number().int().min(16).max(1_048_576).default(2048),
  cpu_limit: z.number().min(0.01).max(1024).default(2),
  timeout_seconds: z.number().int().min(1).max(86_400).default(900),
  max_image_mb: z.number().int().min(1).optional(),
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
  egress_network: Name.optional(),
  credentials: z.record(Name, CredentialsFile).default({}),
  worker_environment_prefixes: z.array(VariableName).default([]),
  build: BuildFile.prefault({}),
})

/**
 * Reads the file, or its defaults where there is none. `environment` is where secrets are taken from,
 * `hostRoots` what may be mounted at all.
 */
export function readConfigFile(
  path: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
  hostRoots: readonly string[] = [],
): FileSettings {
  const file = parseConfigFile(path)
  // A relative .env file lies beside the file that names it.
  const folder = path === undefined ? '.' : dirname(resolve(path))
  return {
    profiles: profilesOf(file.profiles, { hostRoots, credentials: Object.keys(file.credentials) }),
    sharedVolumes: file.shared_volumes,
    egressNetwork: file.egress_network,
    credentials: credentialsOf(file.credentials, environment, folder),
    environmentPrefixes: file.worker_environment_prefixes,
    build: buildOf(file.build),
  }
}

function buildOf(file: z.infer<typeof BuildFile>): BuildSettings {
  return {
    network: file.network,
    memoryBytes: file.memory_mb * MIB,
    cpus: file.cpu_limit,
    timeoutSeconds: file.timeout_seconds,
    maxImageBytes: file.max_image_mb === undefined ? undefined : file.max_image_mb * MIB,
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
