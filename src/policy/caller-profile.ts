/** The profile that a request gets: the one that it names, within the limits of its caller. */
import type { CallerLimits } from '../domain/caller.ts'
import { AppError } from '../errors.ts'
import { type ContainerKind, type Maxima, type Profile, type Profiles, SERVICE, STRICT, WORKSPACE } from './profiles.ts'
import { isBeneath } from './volumes.ts'

const DEFAULT_PROFILE = { tool: STRICT.name, relic: SERVICE.name, worker: WORKSPACE.name } as const

/**
 * The profile that a request names, or the one of its kind, narrowed to what its caller may have. One
 * that is unknown, of another kind or not the caller's is denied.
 */
export function profileFor(
  profiles: Profiles,
  kind: ContainerKind,
  name: string = DEFAULT_PROFILE[kind],
  limits: CallerLimits = {},
): Profile {
  const mayUse = (candidate: Profile) =>
    candidate.kinds.has(kind) && (limits.profiles === undefined || limits.profiles.includes(candidate.name))
  const profile = profiles.get(name)
  if (profile !== undefined && mayUse(profile)) return narrowed(profile, limits)
  const usable = [...profiles.values()].filter(mayUse).map((candidate) => candidate.name)
  throw new AppError('policy_denied', `There is no policy profile "${name}" that this caller may use for a ${kind}`, {
    rule: 'profile',
    hint:
      usable.length === 0 ? `This caller starts no ${kind}s.` : `Name one of these in "profile": ${usable.join(', ')}.`,
  })
}

/** What both the profile and the caller's limits allow. */
function narrowed(profile: Profile, limits: CallerLimits): Profile {
  const { networks, images, hostRoots, credentials } = limits
  return {
    ...profile,
    max: lowest(profile.max, limits),
    ...(images === undefined ? {} : { images: [...profile.images, images] }),
    ...(networks === undefined
      ? {}
      : { networks: new Set([...profile.networks].filter((network) => networks.includes(network))) }),
    ...(hostRoots === undefined ? {} : { hostRoots: commonRoots(hostRoots, profile.hostRoots ?? hostRoots) }),
    ...(credentials === undefined
      ? {}
      : { credentials: credentials.filter((name) => profile.credentials?.includes(name) ?? true) }),
  }
}

/** The folders that lie in one of each list. */
export function commonRoots(some: readonly string[], others: readonly string[]): string[] {
  const inner = some.filter((root) => others.some((other) => isBeneath(root, other)))
  const innerOthers = others.filter((root) => some.some((other) => isBeneath(root, other)))
  return [...new Set([...inner, ...innerOthers])]
}

const MAXIMA = ['memoryMegabytes', 'cpus', 'timeoutSeconds', 'pids'] as const satisfies readonly (keyof Maxima)[]

/** The lower bound of each two, where there is one. */
function lowest(some: Maxima, others: Maxima): Maxima {
  return Object.fromEntries(
    MAXIMA.flatMap((name) => {
      const bounds = [some[name], others[name]].filter((bound) => bound !== undefined)
      return bounds.length === 0 ? [] : [[name, Math.min(...bounds)]]
    }),
  )
}
