/** The only reader of the process's environment: variables, an `.env` file, and the file CO_CONFIG names. */
import { existsSync, readFileSync, realpathSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { isAbsolute } from 'node:path'
import { parseEnv } from 'node:util'
import { parse as parseYaml } from 'yaml'
import { z } from 'zod'
import { Name } from './domain/common.ts'
import { GRANTABLE_CAPABILITIES } from './engine/spec.ts'
import { messageOf } from './errors.ts'
import { BUILT_IN_PROFILES, type NetworkClass, type Profile, type Profiles } from './policy/profiles.ts'

export interface Config {
  readonly host: string
  readonly port: number
  readonly dockerHost: string
  /** Folder with the client's TLS files, where the engine is reached by TLS. */
  readonly dockerCertPath: string | undefined
  readonly dataDir: string
  readonly logLevel: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent'
  readonly sessionSubnets: string
  readonly maxConcurrentRuns: number
  readonly queueLimit: number
  readonly allowedImages: readonly string[]
  readonly allowedHostRoots: readonly string[]
  readonly sharedVolumes: readonly string[]
  readonly allowBuild: boolean
  readonly drainSeconds: number
  readonly toolboxBinary: string | undefined
  readonly profiles: Profiles
  /** Started by `npm start`: a person reads the output. */
  readonly greeting: boolean
}

/** A setting that stops the start: one line that names it and what is allowed. */
export class ConfigError extends Error {}

const LOOPBACK = new Set(['127.0.0.1', '::1', 'localhost'])

const integer = (min: number, max: number) =>
  z.string().regex(/^\d+$/, `a whole number from ${min} to ${max}`).transform(Number).pipe(z.number().min(min).max(max))

const list = z.string().transform((text) =>
  text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== ''),
)

const Variables = z.object({
  CO_HOST: z.string().min(1).default('127.0.0.1'),
  CO_PORT: integer(0, 65_535).default(8086),
  DOCKER_HOST: z.string().min(1).default('unix:///var/run/docker.sock'),
  DOCKER_TLS_VERIFY: z.string().optional(),
  DOCKER_CERT_PATH: z.string().optional(),
  CO_DATA_DIR: z.string().min(1).default('./data'),
  CO_LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
  CO_SESSION_SUBNETS: z
    .string()
    .regex(/^(\d{1,3}\.){3}\d{1,3}\/([89]|1\d|2[0-7])$/, 'an IPv4 range such as 10.213.0.0/16, /8 to /27')
    .refine(
      (range) =>
        range
          .split(/[./]/)
          .slice(0, 4)
          .every((part) => Number(part) <= 255),
      'an IPv4 range such as 10.213.0.0/16',
    )
    .default('10.213.0.0/16'),
  CO_MAX_CONCURRENT_RUNS: integer(1, 10_000).default(2 * availableParallelism()),
  CO_QUEUE_LIMIT: integer(0, 1_000_000).default(10_000),
  CO_ALLOWED_IMAGES: list.default(['*']),
  CO_ALLOWED_HOST_ROOTS: list.default([]),
  CO_ALLOW_BUILD: z.stringbool({ error: 'true or false' }).optional(),
  CO_ALLOW_UNAUTHENTICATED: z.stringbool({ error: 'true or false' }).default(false),
  CO_DRAIN_SECONDS: integer(0, 3600).default(30),
  CO_TOOLBOX_BINARY: z.string().optional(),
  CO_CONFIG: z.string().optional(),
})

const ProfileFile = z.strictObject({
  extends: z.string(),
  readonly_root: z.boolean().optional(),
  capabilities: z.array(z.enum(GRANTABLE_CAPABILITIES)).optional(),
  networks: z
    .array(z.enum(['none', 'session', 'internal', 'bridge']))
    .min(1)
    .optional(),
  tmp_mb: z.number().int().min(1).max(65_536).optional(),
})

const ConfigFile = z.strictObject({
  profiles: z.record(Name, ProfileFile).default({}),
  shared_volumes: z.array(Name).default([]),
})

/** Reads the settings; throws a `ConfigError` for the first that cannot be used. */
export function loadConfig(environment: NodeJS.ProcessEnv = process.env, envFile = '.env'): Config {
  const fromFile = existsSync(envFile) ? parseEnv(readFileSync(envFile, 'utf8')) : {}
  const given = Object.fromEntries(Object.entries({ ...fromFile, ...environment }).filter(([, value]) => value !== ''))
  const parsed = Variables.safeParse(given)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw new ConfigError(`${issue?.path.join('.')}=${String(given[String(issue?.path[0])])}: ${issue?.message}`)
  }
  const variables = parsed.data
  const file = readConfigFile(variables.CO_CONFIG)
  const onLoopback = LOOPBACK.has(variables.CO_HOST)
  if (!onLoopback && !variables.CO_ALLOW_UNAUTHENTICATED) {
    throw new ConfigError(
      `CO_HOST=${variables.CO_HOST}: beyond loopback anyone could run containers; say CO_ALLOW_UNAUTHENTICATED=true where something else keeps callers out`,
    )
  }
  return Object.freeze({
    host: variables.CO_HOST,
    port: variables.CO_PORT,
    dockerHost: variables.DOCKER_HOST,
    dockerCertPath: variables.DOCKER_TLS_VERIFY ? (variables.DOCKER_CERT_PATH ?? '.') : undefined,
    dataDir: variables.CO_DATA_DIR,
    logLevel: variables.CO_LOG_LEVEL,
    sessionSubnets: variables.CO_SESSION_SUBNETS,
    maxConcurrentRuns: variables.CO_MAX_CONCURRENT_RUNS,
    queueLimit: variables.CO_QUEUE_LIMIT,
    allowedImages: variables.CO_ALLOWED_IMAGES,
    allowedHostRoots: variables.CO_ALLOWED_HOST_ROOTS.map(hostRoot),
    sharedVolumes: file.shared_volumes,
    allowBuild: variables.CO_ALLOW_BUILD ?? onLoopback,
    drainSeconds: variables.CO_DRAIN_SECONDS,
    toolboxBinary: variables.CO_TOOLBOX_BINARY,
    profiles: profilesOf(file.profiles),
    greeting: environment['npm_lifecycle_event'] === 'start',
  })
}

function hostRoot(path: string): string {
  const refuse = (why: string) => new ConfigError(`CO_ALLOWED_HOST_ROOTS=${path}: ${why}`)
  if (!isAbsolute(path)) throw refuse('absolute folders only')
  let real: string
  try {
    real = realpathSync(path)
  } catch {
    throw refuse('there is no such folder')
  }
  if (real === '/') throw refuse('the whole host cannot be allowed')
  return real
}

function readConfigFile(path: string | undefined): z.infer<typeof ConfigFile> {
  if (path === undefined) return ConfigFile.parse({})
  let content: unknown
  try {
    content = parseYaml(readFileSync(path, 'utf8')) ?? {}
  } catch (error) {
    throw new ConfigError(`CO_CONFIG=${path}: cannot be read: ${messageOf(error).split('\n')[0]}`)
  }
  const parsed = ConfigFile.safeParse(content)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new ConfigError(`CO_CONFIG=${path}: ${issue?.path.join('.')}: ${issue?.message}`)
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
      ...(given.capabilities === undefined ? {} : { capabilities: given.capabilities }),
      ...(given.networks === undefined ? {} : { networks: new Set<NetworkClass>(given.networks) }),
      ...(given.tmp_mb === undefined ? {} : { tmpBytes: given.tmp_mb * 1024 * 1024 }),
    })
  }
  return profiles
}
