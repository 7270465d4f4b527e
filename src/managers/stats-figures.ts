/** From samples to what callers are told: pure arithmetic. */
import { timestamp } from '../domain/common.ts'
import type { ContainerStats, PastStats, StatsTotals } from '../domain/stats.ts'
import type { StatsSample } from '../engine/engine.ts'
import type { SampleRing } from './sample-ring.ts'
import { megabytes } from './usage-meter.ts'

/** The figures of one sample, on its own and with the one before it. */
type Figures = Omit<PastStats, 'sampled_at'> & Pick<ContainerStats, 'sampled_at' | 'memory_limit_mb'>

/** What was measured over less than this says more about the start of a process than about its use. */
const LEAST_WINDOW_MS = 100

export interface CpuUse {
  /** Of one core. */
  percent: number
  /** What it was measured over. */
  seconds: number
}

/**
 * Between two samples; since the start where there is one alone, or where the other was taken before
 * that. Null where there is nothing to measure between.
 */
export function cpuUse(
  previous: StatsSample | undefined,
  last: StatsSample | undefined,
  startedAt: Date | undefined,
): CpuUse | null {
  if (last === undefined) return null
  const isOfThisRun =
    previous !== undefined &&
    previous.cpuNanoseconds <= last.cpuNanoseconds &&
    previous.at.getTime() >= (startedAt?.getTime() ?? Number.NEGATIVE_INFINITY)
  const from = isOfThisRun ? previous : startedAt && { at: startedAt, cpuNanoseconds: 0 }
  if (from === undefined) return null
  const milliseconds = last.at.getTime() - from.at.getTime()
  if (milliseconds < LEAST_WINDOW_MS) return null
  return {
    percent: percent((last.cpuNanoseconds - from.cpuNanoseconds) / (milliseconds * 1e6)),
    seconds: milliseconds / 1000,
  }
}

/** The newest of the process that runs; nothing but nulls where there is none. */
export function figuresOf(samples: SampleRing | undefined, startedAt: Date | undefined): Figures {
  const last = samples?.at(-1)
  const isOfThisRun = last !== undefined && (startedAt === undefined || last.at >= startedAt)
  return figures(samples?.at(-2), isOfThisRun ? last : undefined, startedAt)
}

/** Those that were taken since `since`, oldest first. */
export function historyOf(samples: SampleRing | undefined, startedAt: Date | undefined, since: Date): PastStats[] {
  const past: PastStats[] = []
  let last = samples?.at(-1)
  for (let index = 2; last !== undefined && last.at >= since; index++) {
    const previous = samples?.at(-index)
    // What ran before the last start, began at a time that is not known any more.
    const began = startedAt !== undefined && last.at >= startedAt ? startedAt : undefined
    const { memory_limit_mb: _, ...told } = figures(previous, last, began)
    past.push({ ...told, sampled_at: timestamp(last.at) })
    last = previous
  }
  return past.reverse()
}

function figures(
  previous: StatsSample | undefined,
  last: StatsSample | undefined,
  startedAt: Date | undefined,
): Figures {
  const cpu = cpuUse(previous, last, startedAt)
  return {
    cpu_percent: cpu?.percent ?? null,
    cpu_window_seconds: cpu?.seconds ?? null,
    memory_used_mb: megabytes(last?.memoryBytes ?? null),
    memory_limit_mb: megabytes(last?.memoryLimitBytes ?? null),
    memory_percent:
      last === undefined || last.memoryLimitBytes === 0 ? null : percent(last.memoryBytes / last.memoryLimitBytes),
    network_rx_mb: megabytes(last?.networkRxBytes ?? null),
    network_tx_mb: megabytes(last?.networkTxBytes ?? null),
    disk_read_mb: megabytes(last?.diskReadBytes ?? null),
    disk_write_mb: megabytes(last?.diskWriteBytes ?? null),
    pids: last?.pids ?? null,
    sampled_at: last === undefined ? null : timestamp(last.at),
  }
}

function percent(ratio: number): number {
  return Math.max(0, Math.round(ratio * 10_000) / 100)
}

/** Sums over what is known. */
export function totalsOf(items: readonly ContainerStats[]): StatsTotals {
  const sum = (pick: (item: ContainerStats) => number | null) =>
    Math.round(items.reduce((total, item) => total + (pick(item) ?? 0), 0) * 100) / 100
  return {
    containers: items.length,
    running: items.filter((item) => item.status === 'running').length,
    cpu_percent: sum((item) => item.cpu_percent),
    memory_used_mb: sum((item) => item.memory_used_mb),
    memory_limit_mb: sum((item) => item.memory_limit_mb),
    network_rx_mb: sum((item) => item.network_rx_mb),
    network_tx_mb: sum((item) => item.network_tx_mb),
    disk_read_mb: sum((item) => item.disk_read_mb),
    disk_write_mb: sum((item) => item.disk_write_mb),
    pids: sum((item) => item.pids),
  }
}
