import type { EngineInfo } from '../engine/engine.ts'
import { AppError } from '../errors.ts'

/** What a caller who says nothing may get; where the host has fewer, containers get all of them. */
const DEFAULT_CORES = 2

/** Refuses (`validation_failed`) more cores than the engine's host has: the engine would. */
export function requireCores(engine: EngineInfo, cpuLimit: number, path: string): void {
  if (cpuLimit <= Math.max(engine.cores, DEFAULT_CORES)) return
  const message = `the host has ${engine.cores} cores`
  throw new AppError('validation_failed', `${path}: ${message}`, { errors: [{ path, message }] })
}
