/** How much of the host the workers may have, and have: pure. */
import type { WorkerCapacity } from '../domain/worker.ts'
import type { StartWorker } from '../domain/worker-spec.ts'
import type { EngineInfo } from '../engine/engine.ts'
import { AppError } from '../errors.ts'
import { memoryBytes } from '../policy/worker-policy.ts'

/** The operator's bounds on all running workers together; undefined where there is none. */
export interface WorkerLimits {
  workers: number | undefined
  memoryBytes: number | undefined
  cpus: number | undefined
}

const RETRY_AFTER_SECONDS = 30

/** `running` are the requests of the workers that run or are about to. */
export function capacityOf(
  running: readonly StartWorker[],
  host: Pick<EngineInfo, 'memoryBytes' | 'cores'>,
  limits: WorkerLimits,
): WorkerCapacity {
  return {
    running: running.length,
    memory_limit_bytes: running.reduce((sum, request) => sum + memoryBytes(request), 0),
    cpu_limit: thousandths(running.reduce((sum, request) => sum + request.cpu_limit, 0)),
    host: { memory_bytes: host.memoryBytes, cores: host.cores },
    allowed: {
      workers: limits.workers ?? null,
      memory_bytes: limits.memoryBytes ?? null,
      cpus: limits.cpus ?? null,
    },
  }
}

/** Refuses (`quota_exceeded`) a worker beyond what the operator allows. */
export function requireCapacity(request: StartWorker, used: WorkerCapacity): void {
  const { workers, memory_bytes, cpus } = used.allowed
  if (workers !== null && used.running + 1 > workers) throw exceeded(`${used.running} of ${workers} workers run`)
  const memory = memoryBytes(request)
  if (memory_bytes !== null && used.memory_limit_bytes + memory > memory_bytes) {
    throw exceeded(
      `the running workers may use ${mebibytes(used.memory_limit_bytes)} of ${mebibytes(memory_bytes)} of memory, and this one asks for ${mebibytes(memory)}`,
    )
  }
  if (cpus !== null && thousandths(used.cpu_limit + request.cpu_limit) > cpus) {
    throw exceeded(
      `the running workers may use ${used.cpu_limit} of ${cpus} cores, and this one asks for ${request.cpu_limit}`,
    )
  }
}

function exceeded(why: string): AppError {
  return new AppError('quota_exceeded', `There is no room for another worker: ${why}`, {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    hint: 'Stop workers that are not needed, or ask for less. The operator sets CO_MAX_WORKERS, CO_WORKERS_MEMORY and CO_WORKERS_CPUS.',
  })
}

/** Sums of fractions of cores are not exact. */
function thousandths(cores: number): number {
  return Math.round(cores * 1000) / 1000
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 1024 ** 2)} MiB`
}
