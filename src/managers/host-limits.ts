import type { EngineInfo } from '../engine/engine.ts'
import { AppError } from '../errors.ts'
import { requireWithin } from '../policy/limits.ts'
import type { Profile } from '../policy/profiles.ts'

/** What a caller who says nothing may get; where the host has fewer, containers get all of them. */
const DEFAULT_CORES = 2

/** As with cores: a worker that asks for nothing may have so much. */
const DEFAULT_MEMORY_BYTES = 4 * 1024 ** 3

/** Refuses (`policy_denied`) more memory than the engine's host has. */
export function requireMemory(engine: EngineInfo, bytes: number): void {
  if (bytes <= Math.max(engine.memoryBytes, DEFAULT_MEMORY_BYTES)) return
  const megabytes = Math.floor(engine.memoryBytes / 1024 ** 2)
  throw new AppError('policy_denied', `The host has ${megabytes} MB of memory`, {
    rule: 'memory',
    hint: `Ask for at most ${megabytes} MB.`,
  })
}

/** Refuses (`validation_failed`) more cores than the engine's host has: the engine would. */
export function requireCores(engine: EngineInfo, cpuLimit: number, path: string): void {
  if (cpuLimit <= Math.max(engine.cores, DEFAULT_CORES)) return
  const message = `the host has ${engine.cores} cores`
  throw new AppError('validation_failed', `${path}: ${message}`, { errors: [{ path, message }] })
}

/** Refuses what a run or relic asks for beyond the engine's host, its profile, or the limits of its caller. */
export function requireResources(
  engine: EngineInfo,
  profile: Profile,
  limits: { memory_mb: number; cpu_limit: number; timeout_seconds: number; pids_limit: number },
): void {
  requireCores(engine, limits.cpu_limit, 'resource_limits.cpu_limit')
  requireMemory(engine, limits.memory_mb * 1024 ** 2)
  requireWithin(profile, {
    memoryMegabytes: limits.memory_mb,
    cpus: limits.cpu_limit,
    timeoutSeconds: limits.timeout_seconds,
    pids: limits.pids_limit,
  })
}
