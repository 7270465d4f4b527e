import { setTimeout as sleep } from 'node:timers/promises'
import type { Records } from '../store/records.ts'
import type { Store } from '../store/store.ts'
import type { ImageManager } from './image-manager.ts'
import type { Log } from './log.ts'
import { Rounds } from './rounds.ts'

export interface RetentionOptions {
  store: Store
  images: ImageManager
  /** How long what has ended is kept. */
  days: number
  /** What all output together may take on disk. */
  spoolBytes: number
  log: Log
}

/** Records of any kind. */
type ExpiringRecords = Pick<Records<unknown, unknown>, 'endedBefore' | 'remove'>

export interface Expired {
  records: number
  /** Of output that had to go before its time. */
  spools: number
  /** That were built from Dockerfiles in requests. */
  images: number
}

const DAY_MS = 86_400_000
const INTERVAL_MS = 10 * 60_000
/** Small, with a pause behind each: requests come first. */
const BATCH = 100
const PAUSE_MS = 20

/** Lets go of what ended long ago: records, output, artifacts and keys. */
export class Retention {
  readonly #options: RetentionOptions
  readonly #rounds: Rounds

  constructor(options: RetentionOptions) {
    this.#options = options
    this.#rounds = new Rounds({
      name: 'retention',
      everyMs: INTERVAL_MS,
      log: options.log,
      work: (signal) => this.expire({ signal }),
    })
  }

  /** Looks regularly from now on. */
  begin(): void {
    this.#rounds.begin()
  }

  end(): void {
    this.#rounds.end()
  }

  /** One look: what is older than the retention goes, and the oldest output beyond its bound. */
  async expire({ now = Date.now(), signal }: { now?: number; signal?: AbortSignal } = {}): Promise<Expired> {
    const { store, images, days, log } = this.#options
    const before = new Date(now - days * DAY_MS)
    const expired: Expired = { records: 0, spools: 0, images: 0 }
    for (const [prefix, records] of [
      ['exec', store.tools],
      ['relic', store.relics],
      ['worker', store.workers],
    ] as const) {
      expired.records += await this.#expireRecords(records, { prefix, before, signal })
    }
    await store.idempotencyKeys.expire(before)
    await store.sessionTokens.expire(new Date(now))
    expired.spools = await this.#boundSpools()
    expired.images = await images.expireBuilt(before)
    if (expired.records + expired.spools + expired.images > 0)
      log.info({ event: 'retention.expired', ...expired }, 'what ended long ago was let go of')
    return expired
  }

  async #expireRecords(
    records: ExpiringRecords,
    { prefix, before, signal }: { prefix: string; before: Date; signal: AbortSignal | undefined },
  ): Promise<number> {
    const { store } = this.#options
    for (let count = 0; ; ) {
      const ids = await records.endedBefore(prefix, before, BATCH)
      for (const id of ids) {
        await store.artifacts.remove(id)
        await store.spools.remove(id)
        // Last: a crash before this leaves the record, and the next look goes on.
        await records.remove(id)
      }
      count += ids.length
      if (ids.length < BATCH) return count
      await sleep(PAUSE_MS, undefined, signal === undefined ? {} : { signal })
    }
  }

  /** Removes the output of what has ended, oldest first, until the rest fits. */
  async #boundSpools(): Promise<number> {
    const { store, spoolBytes } = this.#options
    const sizes = await store.spools.sizes()
    let total = sizes.reduce((sum, { bytes }) => sum + bytes, 0)
    let removed = 0
    for (const { id, bytes } of sizes) {
      if (total <= spoolBytes) return removed
      if (store.spools.isOpen(id)) continue
      await store.spools.remove(id)
      total -= bytes
      removed += 1
    }
    return removed
  }
}
