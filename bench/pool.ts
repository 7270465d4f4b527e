/** Parked containers of the service under test, where its version has them. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { BenchService } from './service.ts'
import { atOnce, greet, type Run, until } from './tool-runs.ts'

/** A setting that a version does not know would stop its start. */
const HAS_POOL = readFileSync(join(import.meta.dirname, '../src/config.ts'), 'utf8').includes('CO_POOL_MAX')

const PARKED_WITHIN_MS = 15_000
const PRIMING_ROUNDS = 3

/** Every run is a cold one. */
export const COLD: Record<string, string> = HAS_POOL ? { CO_POOL_MAX: '0' } : {}

/** So many may be parked, whatever memory they may use. */
export function parking(count: number): Record<string, string> {
  return HAS_POOL ? { CO_POOL_MAX: String(count), CO_POOL_MEMORY_MB: '65536' } : {}
}

interface PoolHealth {
  pool?: { parked: number; wanted: number; max: number }
}

/** Resolves when so many containers are parked and no more are being made, or where that does not come about. */
export async function untilParked(service: BenchService, count: number): Promise<void> {
  if (!HAS_POOL) return
  await until(async () => {
    const { pool } = await service.get<PoolHealth>('/health')
    if (pool === undefined) return true
    return pool.parked >= Math.max(count, Math.min(pool.wanted, pool.max)) || undefined
  }, PARKED_WITHIN_MS)
}

/** Runs until so many are parked for the next ones: what is asked for decides what is parked. */
export async function prime(service: BenchService, count: number): Promise<void> {
  for (let round = 0; round < PRIMING_ROUNDS; round++) {
    await atOnce(count, count, () => greet(service))
    await untilParked(service, count)
  }
}

/** What has to be said of runs that were to be warm, and of which some were not. */
export function coldNotes(runs: readonly Run[]): string[] {
  const cold = runs.filter(({ warm }) => !warm).length
  if (cold === 0) return []
  if (!HAS_POOL) return ['all runs were cold: this version parks no containers']
  return [`${cold} of ${runs.length} runs were cold, though the bench waited for parked containers`]
}
