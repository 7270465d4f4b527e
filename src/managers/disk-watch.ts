import { statfs } from 'node:fs/promises'
import { AppError } from '../errors.ts'
import type { Log } from './log.ts'
import { Rounds } from './rounds.ts'

export interface DiskWatchOptions {
  /** On the file systems that are watched. */
  folders: readonly string[]
  /** So much has to stay free on each. */
  reserveBytes: number
  onChange: (isLow: boolean) => void
  log: Log
  /** Free bytes of the file system of a folder, for unprivileged users; undefined where there is none. */
  freeBytes?: (folder: string) => Promise<number | undefined>
}

const INTERVAL_MS = 2_000
const RETRY_AFTER_SECONDS = 30

/** Keeps new work out before a disk is full: what runs needs the rest for its output and its end. */
export class DiskWatch {
  readonly #options: DiskWatchOptions
  readonly #rounds: Rounds
  #low: { folder: string; free: number } | undefined

  constructor(options: DiskWatchOptions) {
    this.#options = options
    this.#rounds = new Rounds({ name: 'disk', everyMs: INTERVAL_MS, log: options.log, work: () => this.look() })
  }

  begin(): void {
    this.#rounds.begin()
  }

  end(): void {
    this.#rounds.end()
  }

  get isLow(): boolean {
    return this.#low !== undefined
  }

  /** Throws `disk_low` where a disk has less than its reserve. */
  requireRoom(): void {
    if (this.#low === undefined) return
    const { free } = this.#low
    throw new AppError(
      'disk_low',
      `The disk has ${mebibytes(free)} left, and ${mebibytes(this.#options.reserveBytes)} have to stay free: no new work is taken`,
      {
        retryAfterSeconds: RETRY_AFTER_SECONDS,
        hint: 'Have the operator make room; CO_DISK_RESERVE_MB sets what has to stay free, CO_SPOOL_MB and CO_RETENTION_DAYS what is kept.',
      },
    )
  }

  /** One look at every folder. */
  async look(): Promise<void> {
    const { folders, reserveBytes, log, onChange, freeBytes = freeBytesOf } = this.#options
    let low: { folder: string; free: number } | undefined
    for (const folder of folders) {
      const free = await freeBytes(folder)
      if (free !== undefined && free < reserveBytes && free < (low?.free ?? Number.POSITIVE_INFINITY)) {
        low = { folder, free }
      }
    }
    const wasLow = this.isLow
    this.#low = low
    if (wasLow === this.isLow) return
    if (low === undefined) log.info({ event: 'disk.recovered' }, 'the disk has room again')
    else log.error({ event: 'disk.low', folder: low.folder, free_bytes: low.free }, 'the disk is nearly full')
    onChange(this.isLow)
  }
}

async function freeBytesOf(folder: string): Promise<number | undefined> {
  try {
    const { bavail, bsize } = await statfs(folder)
    return bavail * bsize
  } catch (error) {
    // The engine's folder, where the service does not see the engine's disk.
    if (['ENOENT', 'EACCES'].includes(String((error as NodeJS.ErrnoException).code))) return undefined
    throw error
  }
}

function mebibytes(bytes: number): string {
  return `${Math.floor(bytes / 1024 ** 2)} MiB`
}
