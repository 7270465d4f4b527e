import type { ResourceUsage } from '../domain/tool.ts'
import type { StatsSample } from '../engine/engine.ts'
import type { StatsStreams } from './stats-streams.ts'

const MIB = 1024 * 1024
/** A run that ends sooner is not sampled: opening a stream would cost it more than it tells. */
const GRACE_MS = 250

/** Megabytes of 2^20 bytes, to two decimals; null stays null. */
export function megabytes(bytes: number): number
export function megabytes(bytes: number | null): number | null
export function megabytes(bytes: number | null): number | null {
  return bytes === null ? null : Math.round((bytes / MIB) * 100) / 100
}

/** Watches what one run uses, from its container's stats stream, for as long as it lasts. */
export class UsageMeter {
  readonly #timer: NodeJS.Timeout
  #leave: () => void = () => {}
  #last: StatsSample | undefined
  #peakBytes = 0
  #samples = 0

  constructor(streams: StatsStreams, containerId: string) {
    this.#timer = setTimeout(() => {
      this.#leave = streams.feed(containerId).watch((sample) => this.#note(sample))
    }, GRACE_MS)
  }

  /** Ends the watching and tells what was seen; null where nothing was. */
  stop(): ResourceUsage | null {
    clearTimeout(this.#timer)
    this.#leave()
    if (this.#last === undefined) return null
    return {
      cpu_seconds: Math.round(this.#last.cpuNanoseconds / 1e6) / 1e3,
      memory_peak_mb: megabytes(this.#last.memoryPeakBytes ?? this.#peakBytes),
      network_rx_mb: megabytes(this.#last.networkRxBytes),
      network_tx_mb: megabytes(this.#last.networkTxBytes),
      disk_read_mb: megabytes(this.#last.diskReadBytes),
      disk_write_mb: megabytes(this.#last.diskWriteBytes),
      samples: this.#samples,
    }
  }

  #note(sample: StatsSample): void {
    this.#last = sample
    this.#peakBytes = Math.max(this.#peakBytes, sample.memoryBytes)
    this.#samples += 1
  }
}
