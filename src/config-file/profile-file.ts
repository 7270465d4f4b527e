/** Policy profiles as the operator writes them. */
import { z } from 'zod'
import { Name } from '../domain/common.ts'
import { GRANTABLE_CAPABILITIES } from '../engine/spec.ts'
import { ConfigError } from '../errors.ts'
import { isImagePattern } from '../policy/images.ts'
import {
  BUILT_IN_PROFILES,
  type Egress,
  type Maxima,
  type NetworkClass,
  type Profile,
  type Profiles,
} from '../policy/profiles.ts'
import { isBeneath } from '../policy/volumes.ts'
import { resolveHostRoot } from './host-root.ts'

const MIB = 1024 * 1024
const LABEL = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?'
const HOST = new RegExp(`^(?:${LABEL}|(?:\\*\\.)?${LABEL}(?:\\.${LABEL})+)$`)
const BYTE = '(?:\\d|[1-9]\\d|1\\d\\d|2[0-4]\\d|25[0-5])'
const RANGE = new RegExp(`^${BYTE}(?:\\.${BYTE}){3}/(?:\\d|[12]\\d|3[0-2])$`)

const EgressFile = z.strictObject({
  hosts: z
    .array(
      z
        .string()
        .max(253)
        .toLowerCase()
        .regex(HOST, 'a host name, or one such as "*.example.org" for all beneath it')
        .refine((host) => !/(^|\.)\d+$/.test(host), 'names, no addresses'),
    )
    .min(1),
  ports: z.array(z.number().int().min(1).max(65_535)).min(1).default([80, 443]),
  private_ranges: z.array(z.string().regex(RANGE, 'an IPv4 range such as 10.1.2.0/24')).default([]),
})

const MaximaFile = z.strictObject({
  memory_mb: z.number().int().min(8).optional(),
  cpu_limit: z.number().min(0.01).optional(),
  timeout_seconds: z.number().min(0.1).optional(),
  pids_limit: z.number().int().min(4).optional(),
})

export const ProfileFile = z.strictObject({
  extends: z.string(),
  kinds: z
    .array(z.enum(['tool', 'relic', 'worker']))
    .min(1)
    .optional(),
  readonly_root: z.boolean().optional(),
  may_write_root: z.boolean().optional(),
  capabilities: z.array(z.enum(GRANTABLE_CAPABILITIES)).optional(),
  networks: z
    .array(z.enum(['none', 'session', 'internal', 'bridge', 'egress']))
    .min(1)
    .optional(),
  egress: EgressFile.optional(),
  images: z.array(z.string().refine(isImagePattern, 'a pattern of image references')).optional(),
  max: MaximaFile.optional(),
  host_roots: z.array(z.string()).optional(),
  credentials: z.array(Name).optional(),
  gpu: z.boolean().optional(),
  build: z.boolean().optional(),
  runtime: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/, 'the name of a runtime of the engine, such as "runsc"')
    .optional(),
  tmp_mb: z.number().int().min(1).max(65_536).optional(),
  user: z
    .string()
    .regex(/^\d{1,10}(:\d{1,10})?$/, 'numbers, as in "1000:1000"')
    .optional(),
})
type ProfileFile = z.infer<typeof ProfileFile>

/** What the profiles of a file are checked against. */
export interface Surroundings {
  /** Host folders that may be mounted at all, free of symlinks. */
  hostRoots: readonly string[]
  /** Names of the credential sets that there are. */
  credentials: readonly string[]
}

/** The built-in profiles and the operator's, each of which extends one that stands before it. */
export function profilesOf(file: Record<string, ProfileFile>, surroundings: Surroundings): Profiles {
  const profiles = new Map<string, Profile>(BUILT_IN_PROFILES.map((profile) => [profile.name, profile]))
  for (const [name, given] of Object.entries(file)) {
    const base = profiles.get(given.extends)
    if (base === undefined)
      throw new ConfigError(`CO_CONFIG: profile "${name}" extends "${given.extends}", which is not known`)
    profiles.set(name, checked({ ...base, ...changes(given, base, surroundings), name }, surroundings))
  }
  return profiles
}

/** What a profile has in place of its base's; maxima are replaced one by one. */
function changes(given: ProfileFile, base: Profile, { hostRoots }: Surroundings): Partial<Profile> {
  const { extends: _, readonly_root, may_write_root, host_roots, tmp_mb, max, egress, ...same } = given
  const { kinds, networks, images, ...plain } = same
  return present({
    ...plain,
    kinds: kinds && new Set(kinds),
    networks: networks && new Set<NetworkClass>(networks),
    images: images && [images],
    readonlyRoot: readonly_root,
    mayWriteRoot: may_write_root,
    tmpBytes: tmp_mb && tmp_mb * MIB,
    max: max && { ...base.max, ...maxima(max) },
    egress: egress && egressOf(egress),
    hostRoots: host_roots?.map((path) => rootWithin(path, hostRoots)),
  })
}

function maxima(max: z.infer<typeof MaximaFile>): Maxima {
  return present({
    memoryMegabytes: max.memory_mb,
    cpus: max.cpu_limit,
    timeoutSeconds: max.timeout_seconds,
    pids: max.pids_limit,
  })
}

function egressOf({ hosts, ports, private_ranges }: z.infer<typeof EgressFile>): Egress {
  return { hosts, ports, privateRanges: private_ranges }
}

/** One setting says what may be mounted at all; a profile chooses among that. */
function rootWithin(path: string, allowed: readonly string[]): string {
  const real = resolveHostRoot(path, `CO_CONFIG: host_roots: ${path}`)
  if (allowed.some((root) => isBeneath(real, root))) return real
  throw new ConfigError(`CO_CONFIG: host_roots: ${path}: is not in a folder of CO_ALLOWED_HOST_ROOTS`)
}

function checked(profile: Profile, { credentials }: Surroundings): Profile {
  const refuse = (why: string) => new ConfigError(`CO_CONFIG: profile "${profile.name}": ${why}`)
  if (profile.networks.has('egress') && profile.egress === undefined)
    throw refuse('the network "egress" needs "egress" with its hosts')
  if (profile.egress !== undefined && !profile.networks.has('egress'))
    throw refuse('"egress" is for nothing where "networks" does not have it: add "egress" there')
  const unknown = profile.credentials?.find((name) => !credentials.includes(name))
  if (unknown !== undefined) throw refuse(`there is no credential set "${unknown}"`)
  return profile
}

type Present<T> = { [K in keyof T]?: Exclude<T[K], undefined> }

function present<T extends object>(fields: T): Present<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Present<T>
}
