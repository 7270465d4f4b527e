/** The only reader of the process's environment: variables, an `.env` file, and the file CO_CONFIG names. */
import { existsSync, readFileSync } from 'node:fs'
import { availableParallelism, homedir } from 'node:os'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import { z } from 'zod'
import { resolveHostRoot } from './config-file/host-root.ts'
import { type BuildSettings, readConfigFile } from './config-file.ts'
import { parseMemorySize } from './domain/memory-size.ts'
import { nearest } from './domain/nearest.ts'
import type { Quotas } from './domain/session.ts'
import { ConfigError } from './errors.ts'
import type { CredentialSets } from './policy/credentials.ts'
import { isImagePattern } from './policy/images.ts'
import type { Profiles } from './policy/profiles.ts'

export interface Config {
  readonly host: string
  readonly port: number
  /** Nobody beyond this machine can reach it. */
  readonly loopback: boolean
  /** Keys that callers have to show; undefined where they show none. */
  readonly keysFile: string | undefined
  /** Of each key that has no bound of its own. */
  readonly requestsPerMinute: number
  /** Names by which callers reach the service, beside those without a dot; lower case, `*` for any. */
  readonly allowedHosts: readonly string[]
  /** Connections at once. */
  readonly maxConnections: number
  /** Streams that one caller has open at once. */
  readonly maxStreams: number
  readonly dockerHost: string
  /** Folder with the client's TLS files, where the engine is reached by TLS. */
  readonly dockerCertPath: string | undefined
  readonly dataDir: string
  readonly logLevel: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent'
  readonly sessionSubnets: string
  readonly maxConcurrentRuns: number
  readonly queueLimit: number
  /** Containers parked ahead of need at most; 0 for none. */
  readonly poolMax: number
  /** Of the memory limits of those together. */
  readonly poolMegabytes: number
  readonly allowedImages: readonly string[]
  readonly allowedHostRoots: readonly string[]
  readonly sharedVolumes: readonly string[]
  /** The engine's default bridge where absent. */
  readonly egressNetwork: string | undefined
  readonly allowBuild: boolean
  readonly build: BuildSettings
  /** Cgroup that all containers and builds are under; undefined for the engine's own. */
  readonly cgroupParent: string | undefined
  readonly drainSeconds: number
  readonly retentionDays: number
  readonly spoolMegabytes: number
  readonly toolboxBinary: string | undefined
  readonly profiles: Profiles
  readonly credentials: CredentialSets
  readonly workerEnvironmentPrefixes: readonly string[]
  readonly workerLimits: WorkerLimits
  /** What each session may have at once; null for what the operator does not bound. */
  readonly sessionQuotas: Quotas
  /** Below so much free disk no new work is taken. */
  readonly diskReserveMegabytes: number
  /** Started by `npm start`: a person reads the output. */
  readonly greeting: boolean
}

/** What all running workers together may have; undefined where the operator set no bound. */
export interface WorkerLimits {
  readonly workers: number | undefined
  readonly memoryBytes: number | undefined
  readonly cpus: number | undefined
}

/** A path for the driver `cgroupfs`, a slice for `systemd`; none of its parts is a dot or two. */
const CGROUP = /^(?:(?:\/(?!\.\.?(?:\/|$))[A-Za-z0-9_.-]+)+|[A-Za-z0-9_-]+\.slice)$/

const LOOPBACK = new Set(['127.0.0.1', '::1', 'localhost'])

const HOST_NAME = /^[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?$/

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
  CO_ALLOWED_HOSTS: list
    .transform((names) => names.map((name) => name.toLowerCase().replace(/\.$/, '')))
    .refine(
      (names) => names.every((name) => name === '*' || HOST_NAME.test(name)),
      'names such as api.example.org, or *',
    )
    .default([]),
  CO_MAX_CONNECTIONS: integer(16, 65_535).default(1024),
  CO_MAX_STREAMS: integer(1, 65_535).default(256),
  DOCKER_HOST: z.string().min(1).default('unix:///var/run/docker.sock'),
  DOCKER_TLS_VERIFY: z.string().optional(),
  DOCKER_CERT_PATH: z.string().optional(),
  DOCKER_CONFIG: z.string().optional(),
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
  CO_POOL_MAX: integer(0, 1_000).default(8),
  CO_POOL_MEMORY_MB: integer(0, 100_000_000).default(2048),
  CO_ALLOWED_IMAGES: list
    .refine((patterns) => patterns.every(isImagePattern), 'comma-separated patterns of image references')
    .default(['*']),
  CO_ALLOWED_HOST_ROOTS: list.default([]),
  CO_ALLOW_BUILD: z.stringbool({ error: 'true or false' }).optional(),
  CO_KEYS_FILE: z.string().optional(),
  CO_REQUESTS_PER_MINUTE: integer(1, 10_000_000).default(6_000),
  CO_ALLOW_UNAUTHENTICATED: z.stringbool({ error: 'true or false' }).default(false),
  CO_CGROUP_PARENT: z
    .string()
    .regex(CGROUP, 'a cgroup such as /containers, or with systemd a slice such as containers.slice')
    .optional(),
  CO_DRAIN_SECONDS: integer(0, 3600).default(30),
  CO_RETENTION_DAYS: integer(1, 36_500).default(7),
  CO_SPOOL_MB: integer(16, 100_000_000).default(2048),
  CO_DISK_RESERVE_MB: integer(0, 100_000_000).default(256),
  CO_SESSION_RUNS: integer(1, 1_000_000).optional(),
  CO_SESSION_CONTAINERS: integer(1, 1_000_000).optional(),
  CO_SESSION_MEMORY: z
    .string()
    .transform(parseMemorySize)
    .refine((bytes) => bytes !== undefined, 'a size such as "8g"')
    .optional(),
  CO_MAX_WORKERS: integer(0, 100_000).optional(),
  CO_WORKERS_MEMORY: z
    .string()
    .transform(parseMemorySize)
    .refine((bytes) => bytes !== undefined, 'a size such as "16g"')
    .optional(),
  CO_WORKERS_CPUS: z
    .string()
    .regex(/^\d{1,5}(\.\d{1,3})?$/, 'a number of cores, such as 8')
    .transform(Number)
    .optional(),
  CO_TOOLBOX_BINARY: z.string().optional(),
  CO_CONFIG: z.string().optional(),
})

/** Reads the settings; throws a `ConfigError` for the first that cannot be used. */
export function loadConfig(environment: NodeJS.ProcessEnv = process.env, envFile = '.env'): Config {
  const given = readVariables(environment, envFile)
  const parsed = Variables.safeParse(given)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw new ConfigError(`${issue?.path.join('.')}=${String(given[String(issue?.path[0])])}: ${issue?.message}`)
  }
  const variables = parsed.data
  const allowedHostRoots = variables.CO_ALLOWED_HOST_ROOTS.map((path) =>
    resolveHostRoot(path, `CO_ALLOWED_HOST_ROOTS=${path}`),
  )
  const file = readConfigFile(variables.CO_CONFIG, given, allowedHostRoots)
  refuseUnknown(given, file.credentials)
  const onLoopback = LOOPBACK.has(variables.CO_HOST)
  if (!onLoopback && variables.CO_KEYS_FILE === undefined && !variables.CO_ALLOW_UNAUTHENTICATED) {
    throw new ConfigError(
      `CO_HOST=${variables.CO_HOST}: beyond loopback anyone could run containers; name a file of keys in CO_KEYS_FILE, or say CO_ALLOW_UNAUTHENTICATED=true where something else keeps callers out`,
    )
  }
  return Object.freeze({
    host: variables.CO_HOST,
    port: variables.CO_PORT,
    loopback: onLoopback,
    keysFile: variables.CO_KEYS_FILE,
    requestsPerMinute: variables.CO_REQUESTS_PER_MINUTE,
    allowedHosts: variables.CO_ALLOWED_HOSTS,
    maxConnections: variables.CO_MAX_CONNECTIONS,
    maxStreams: variables.CO_MAX_STREAMS,
    dockerHost: variables.DOCKER_HOST,
    // The client's own default: the folder of its configuration.
    dockerCertPath: variables.DOCKER_TLS_VERIFY
      ? (variables.DOCKER_CERT_PATH ?? variables.DOCKER_CONFIG ?? join(homedir(), '.docker'))
      : undefined,
    dataDir: variables.CO_DATA_DIR,
    logLevel: variables.CO_LOG_LEVEL,
    sessionSubnets: variables.CO_SESSION_SUBNETS,
    maxConcurrentRuns: variables.CO_MAX_CONCURRENT_RUNS,
    queueLimit: variables.CO_QUEUE_LIMIT,
    poolMax: variables.CO_POOL_MAX,
    poolMegabytes: variables.CO_POOL_MEMORY_MB,
    allowedImages: variables.CO_ALLOWED_IMAGES,
    allowedHostRoots,
    sharedVolumes: file.sharedVolumes,
    egressNetwork: file.egressNetwork,
    allowBuild: variables.CO_ALLOW_BUILD ?? onLoopback,
    build: file.build,
    cgroupParent: variables.CO_CGROUP_PARENT,
    drainSeconds: variables.CO_DRAIN_SECONDS,
    retentionDays: variables.CO_RETENTION_DAYS,
    spoolMegabytes: variables.CO_SPOOL_MB,
    toolboxBinary: variables.CO_TOOLBOX_BINARY,
    profiles: file.profiles,
    credentials: file.credentials,
    workerEnvironmentPrefixes: file.environmentPrefixes,
    workerLimits: {
      workers: variables.CO_MAX_WORKERS,
      memoryBytes: variables.CO_WORKERS_MEMORY,
      cpus: variables.CO_WORKERS_CPUS,
    },
    sessionQuotas: {
      runs: variables.CO_SESSION_RUNS ?? null,
      containers: variables.CO_SESSION_CONTAINERS ?? null,
      memory_mb: variables.CO_SESSION_MEMORY === undefined ? null : Math.floor(variables.CO_SESSION_MEMORY / 1024 ** 2),
    },
    diskReserveMegabytes: variables.CO_DISK_RESERVE_MB,
    greeting: environment['npm_lifecycle_event'] === 'start',
  })
}

/** One setting by itself, for commands: the others may be wrong. */
export function readSetting(
  name: 'CO_KEYS_FILE' | 'CO_DATA_DIR',
  environment: NodeJS.ProcessEnv = process.env,
  envFile = '.env',
): string | undefined {
  return Variables.shape[name].parse(readVariables(environment, envFile)[name])
}

function readVariables(environment: NodeJS.ProcessEnv, envFile: string): Record<string, string | undefined> {
  const fromFile = existsSync(envFile) ? parseEnv(readFileSync(envFile, 'utf8')) : {}
  return Object.fromEntries(Object.entries({ ...fromFile, ...environment }).filter(([, value]) => value !== ''))
}

/** A setting that is misspelt would be one that is not set: `CO_ALOWED_IMAGES` allows all images. */
function refuseUnknown(given: Readonly<Record<string, string | undefined>>, credentials: CredentialSets): void {
  const settings = Object.keys(Variables.shape)
  const sources = [...credentials.values()].flatMap(({ environment, git }) => [
    ...Object.values(environment),
    ...(git === undefined ? [] : [git.token]),
  ])
  const known = new Set([...settings, ...sources.map(({ name }) => name)])
  const unknown = Object.keys(given).find((name) => name.startsWith('CO_') && !known.has(name))
  if (unknown === undefined) return
  throw new ConfigError(`${unknown}: there is no such setting; is ${nearest(unknown, settings)} meant?`)
}
