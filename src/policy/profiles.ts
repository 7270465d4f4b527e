/**
 * What a container may be, by profile: the whole of the hardening that is not the same for all.
 * (What is the same for all are constants of engine/docker/create-options.ts.)
 */
import type { Capability } from '../engine/spec.ts'
import { AppError } from '../errors.ts'

export type NetworkClass = 'none' | 'session' | 'internal' | 'bridge' | 'egress'

export type ContainerKind = 'tool' | 'relic' | 'worker'

/** Where a container of the network class `egress` may go, and nowhere else. */
export interface Egress {
  /** Host names as they are, or `*.example.org` for all beneath one. */
  readonly hosts: readonly string[]
  readonly ports: readonly number[]
  /** IPv4 ranges that are not public and may be reached all the same; none by default. */
  readonly privateRanges: readonly string[]
}

/** The most that one container may ask for; where absent, what the host has. */
export interface Maxima {
  readonly memoryMegabytes?: number
  readonly cpus?: number
  /** Of a tool's run and a relic's start. */
  readonly timeoutSeconds?: number
  readonly pids?: number
}

export interface Profile {
  readonly name: string
  /** Kinds of container that may have it. */
  readonly kinds: ReadonlySet<ContainerKind>
  readonly readonlyRoot: boolean
  /** A request may ask for a root file system that can be written to. */
  readonly mayWriteRoot: boolean
  readonly capabilities: readonly Capability[]
  /** Networks that a request may choose among. */
  readonly networks: ReadonlySet<NetworkClass>
  /** Belongs to the network class `egress`. */
  readonly egress?: Egress
  /** Lists of image patterns, each of which has to allow an image, beside the operator's for all. */
  readonly images: readonly (readonly string[])[]
  readonly max: Maxima
  /** Host folders, each within one that the operator allows; absent: all of those. */
  readonly hostRoots?: readonly string[]
  /** Names of the credential sets that a request may name; absent: all. */
  readonly credentials?: readonly string[]
  /** A request may ask for GPUs. */
  readonly gpu: boolean
  /** A request may bring a Dockerfile, where the operator allows builds at all. */
  readonly build: boolean
  /** The engine's runtime, such as `runsc`; absent: the engine's default. */
  readonly runtime?: string
  /** Size of the tmpfs at /tmp. It counts toward the memory limit. */
  readonly tmpBytes: number
  readonly openFiles: { readonly soft: number; readonly hard: number }
  /** The user that containers run as, whatever a request or an image says. */
  readonly user?: string
}

/** What a request may raise its open files to. */
const MAX_OPEN_FILES = 16_384

const MIB = 1024 * 1024

const COMMON = {
  kinds: new Set<ContainerKind>(['tool', 'relic', 'worker']),
  images: [],
  max: {},
  gpu: true,
  build: true,
} as const satisfies Partial<Profile>

/** For tools: nothing to write but /tmp and /output, no capability, no way out. */
export const STRICT: Profile = {
  ...COMMON,
  name: 'strict',
  readonlyRoot: true,
  capabilities: [],
  networks: new Set<NetworkClass>(['none', 'session']),
  tmpBytes: 256 * MIB,
  openFiles: { soft: 1024, hard: 4096 },
  mayWriteRoot: false,
}

/** For relics: what Debian's nginx, redis and postgres need to start as their packages ship them. */
export const SERVICE: Profile = {
  ...COMMON,
  name: 'service',
  readonlyRoot: false,
  capabilities: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'SETGID', 'SETUID', 'KILL', 'NET_BIND_SERVICE'],
  networks: new Set<NetworkClass>(['session']),
  tmpBytes: 256 * MIB,
  openFiles: { soft: 4096, hard: 16_384 },
  mayWriteRoot: true,
}

/** For workers: a workspace to write to, and nothing else. */
export const WORKSPACE: Profile = {
  ...COMMON,
  name: 'workspace',
  readonlyRoot: true,
  capabilities: [],
  networks: new Set<NetworkClass>(['none', 'session', 'internal']),
  tmpBytes: 1024 * MIB,
  openFiles: { soft: 1024, hard: 2048 },
  mayWriteRoot: true,
}

export const BUILT_IN_PROFILES: readonly Profile[] = [STRICT, SERVICE, WORKSPACE]

export type Profiles = ReadonlyMap<string, Profile>

/** Refuses a network that the profile does not allow. */
export function requireNetwork(profile: Profile, network: NetworkClass): void {
  if (profile.networks.has(network)) return
  throw new AppError('policy_denied', `Profile "${profile.name}" does not allow the network "${network}"`, {
    rule: 'network',
    hint: `Use one of: ${[...profile.networks].join(', ')}. An operator can give a profile "${network}" in the file that CO_CONFIG names, where the limits of the key allow it.`,
  })
}

/** Refuses a writable root file system where the profile does not allow one. */
export function requireRoot(profile: Profile, readonlyRoot: boolean): void {
  if (readonlyRoot || profile.mayWriteRoot) return
  throw new AppError('policy_denied', `Profile "${profile.name}" does not allow a writable root file system`, {
    rule: 'root_filesystem',
    hint: 'Leave readonly_root out, and write to /workspace, /tmp or the home folder.',
  })
}

/** Refuses more open files than any profile allows. */
export function requireOpenFiles(profile: Profile, hard: number): void {
  const most = Math.max(MAX_OPEN_FILES, profile.openFiles.hard)
  if (hard <= most) return
  throw new AppError('policy_denied', `Profile "${profile.name}" allows at most ${most} open files`, {
    rule: 'open_files',
    hint: `Ask for nofile.hard of at most ${most}.`,
  })
}

/** Refuses GPUs where the profile does not allow them. */
export function requireGpuAllowed(profile: Profile): void {
  if (profile.gpu) return
  throw new AppError('policy_denied', `Profile "${profile.name}" does not allow GPUs`, {
    rule: 'gpu',
    hint: 'Leave "gpu" out, or name a profile that allows them.',
  })
}

/** Refuses a Dockerfile where the profile does not allow builds. */
export function requireBuildAllowed(profile: Profile): void {
  if (profile.build) return
  throw new AppError('policy_denied', `Profile "${profile.name}" does not allow Dockerfiles`, {
    rule: 'build',
    hint: 'Name an image instead.',
  })
}
