/**
 * What a container may be, by profile: the whole of the hardening that is not the same for all.
 * (What is the same for all are constants of engine/docker/create-options.ts.)
 */
import type { Capability } from '../engine/spec.ts'
import { AppError } from '../errors.ts'

export type NetworkClass = 'none' | 'session' | 'internal' | 'bridge'

export interface Profile {
  readonly name: string
  readonly readonlyRoot: boolean
  readonly capabilities: readonly Capability[]
  /** Networks that a request may choose among. */
  readonly networks: ReadonlySet<NetworkClass>
  /** Size of the tmpfs at /tmp. It counts toward the memory limit. */
  readonly tmpBytes: number
  readonly openFiles: { readonly soft: number; readonly hard: number }
  /** A request may ask for a root file system that can be written to. */
  readonly mayWriteRoot: boolean
  /** The user that containers run as, whatever a request or an image says. */
  readonly user?: string
}

/** What a request may raise its open files to. */
const MAX_OPEN_FILES = 16_384

const MIB = 1024 * 1024

/** For tools: nothing to write but /tmp and /output, no capability, no way out. */
export const STRICT: Profile = {
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
  name: 'workspace',
  readonlyRoot: true,
  capabilities: [],
  networks: new Set<NetworkClass>(['none', 'session', 'internal']),
  tmpBytes: 1024 * MIB,
  openFiles: { soft: 1024, hard: 2048 },
  mayWriteRoot: true,
}

export const BUILT_IN_PROFILES: readonly Profile[] = [STRICT, SERVICE, WORKSPACE]

const DEFAULT_PROFILE = { tool: STRICT.name, relic: SERVICE.name, worker: WORKSPACE.name } as const

export type Profiles = ReadonlyMap<string, Profile>

/** The profile that a request names, or the one of its kind; an unknown name is denied. */
export function profileFor(profiles: Profiles, kind: keyof typeof DEFAULT_PROFILE, name: string | undefined): Profile {
  const profile = profiles.get(name ?? DEFAULT_PROFILE[kind])
  if (profile !== undefined) return profile
  throw new AppError('policy_denied', `There is no policy profile "${name}" that this caller may use`, {
    hint: `Leave "profile" out for the default, or use one of: ${[...profiles.keys()].join(', ')}.`,
  })
}

/** Refuses a network that the profile does not allow. */
export function requireNetwork(profile: Profile, network: NetworkClass): void {
  if (profile.networks.has(network)) return
  throw new AppError('policy_denied', `Profile "${profile.name}" does not allow the network "${network}"`, {
    hint: `Use one of: ${[...profile.networks].join(', ')}. An operator can add a profile with "${network}" in the file that CO_CONFIG names.`,
  })
}

/** Refuses a writable root file system where the profile does not allow one. */
export function requireRoot(profile: Profile, readonlyRoot: boolean): void {
  if (readonlyRoot || profile.mayWriteRoot) return
  throw new AppError('policy_denied', `Profile "${profile.name}" does not allow a writable root file system`, {
    hint: 'Leave readonly_root out, and write to /workspace, /tmp or the home folder.',
  })
}

/** Refuses more open files than any profile allows. */
export function requireOpenFiles(profile: Profile, hard: number): void {
  const most = Math.max(MAX_OPEN_FILES, profile.openFiles.hard)
  if (hard <= most) return
  throw new AppError('policy_denied', `Profile "${profile.name}" allows at most ${most} open files`, {
    hint: `Ask for nofile.hard of at most ${most}.`,
  })
}
