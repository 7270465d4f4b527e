import { z } from 'zod'
import type { StatsSample } from '../engine.ts'
import { Instant } from './state.ts'

const Counter = z.number().nonnegative()

const NetworkCounters = z.looseObject({ rx_bytes: Counter, tx_bytes: Counter })

/** The parts of a stats message that are read, for cgroup v1 and v2, Docker and Podman. */
export const StatsMessage = z.looseObject({
  read: Instant,
  cpu_stats: z.looseObject({ cpu_usage: z.looseObject({ total_usage: Counter.optional() }).optional() }).optional(),
  memory_stats: z
    .looseObject({
      usage: Counter.optional(),
      max_usage: Counter.optional(),
      limit: Counter.optional(),
      stats: z.record(z.string(), Counter).nullish(),
    })
    .optional(),
  networks: z.record(z.string(), NetworkCounters).nullish(),
  // Podman's name for the same.
  network: z.record(z.string(), NetworkCounters).nullish(),
  blkio_stats: z
    .looseObject({
      io_service_bytes_recursive: z.array(z.looseObject({ op: z.string(), value: Counter })).nullish(),
    })
    .nullish(),
  pids_stats: z.looseObject({ current: Counter.optional() }).nullish(),
})
export type StatsMessage = z.infer<typeof StatsMessage>

/** One sample from one message; undefined for the empty message of a container that does not run. */
export function sampleOf(message: StatsMessage): StatsSample | undefined {
  const cpuNanoseconds = message.cpu_stats?.cpu_usage?.total_usage
  const usage = message.memory_stats?.usage
  if (cpuNanoseconds === undefined || usage === undefined) return undefined
  const networks = message.networks ?? message.network
  const counters = networks ? Object.values(networks) : undefined
  const blocks = message.blkio_stats?.io_service_bytes_recursive
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)
  const moved = (op: string) =>
    blocks ? sum(blocks.filter((entry) => entry.op.toLowerCase() === op).map((entry) => entry.value)) : null
  return {
    at: new Date(message.read),
    cpuNanoseconds,
    memoryBytes: withoutCache(usage, message.memory_stats?.stats ?? {}),
    memoryLimitBytes: message.memory_stats?.limit ?? 0,
    memoryPeakBytes: peakOf(message),
    networkRxBytes: counters ? sum(counters.map((counter) => counter.rx_bytes)) : null,
    networkTxBytes: counters ? sum(counters.map((counter) => counter.tx_bytes)) : null,
    diskReadBytes: moved('read'),
    diskWriteBytes: moved('write'),
    pids: message.pids_stats?.current ?? null,
  }
}

// As the docker CLI does: total_inactive_file on cgroup v1, inactive_file on v2, where it is less than the use.
function withoutCache(usage: number, stats: Record<string, number>): number {
  const cache = stats['total_inactive_file'] ?? stats['inactive_file'] ?? 0
  return cache < usage ? usage - cache : usage
}

/** Podman (told by its name for networks) fills the field with the limit, or with 0. */
function peakOf({ memory_stats, network }: StatsMessage): number | null {
  return network === undefined || network === null ? (memory_stats?.max_usage ?? null) : null
}
