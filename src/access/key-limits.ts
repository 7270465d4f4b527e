/** Limits of a key, as its file has them. */
import { isAbsolute, normalize } from 'node:path'
import { z } from 'zod'
import type { CallerLimits } from '../domain/caller.ts'
import { Name } from '../domain/common.ts'

const amount = z.number().int().min(1).max(1_000_000_000)
const count = z.number().int().min(0).max(1_000_000_000)

export const KeyLimits = z.strictObject({
  profiles: z.array(Name).optional(),
  images: z.array(z.string().min(1).max(512)).optional(),
  networks: z.array(Name).optional(),
  host_roots: z
    .array(z.string().refine((path) => isAbsolute(path) && normalize(path) === path, 'clean absolute paths'))
    .optional(),
  credentials: z.array(Name).optional(),
  memory_mb: amount.optional(),
  cpus: z.number().positive().max(100_000).optional(),
  timeout_seconds: amount.optional(),
  pids: amount.optional(),
  sessions: count.optional(),
  runs: count.optional(),
  containers: count.optional(),
  requests_per_minute: amount.optional(),
})
export type KeyLimits = z.infer<typeof KeyLimits>

/** The limits as the service reads them: names of the domain, and what is absent left out. */
export function callerLimits(limits: KeyLimits): CallerLimits {
  const { host_roots, memory_mb, timeout_seconds, requests_per_minute, ...rest } = limits
  const renamed = {
    ...rest,
    hostRoots: host_roots,
    memoryMegabytes: memory_mb,
    timeoutSeconds: timeout_seconds,
    requestsPerMinute: requests_per_minute,
  }
  return Object.fromEntries(Object.entries(renamed).filter(([, value]) => value !== undefined))
}
