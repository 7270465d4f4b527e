import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../errors.ts'
import type { Records } from '../store/records.ts'
import type { Store } from '../store/store.ts'
import type { Log } from './log.ts'

export interface RetentionOptions {
  store: Store
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
}

const DAY_MS = 86_400_000
const INTERVAL_MS = 10 * 60_000
/** Small, with a pause behind each: requests come first. */
const BATCH = 100
const PAUSE_MS = 20

/** Lets go of what ended long ago: records, output, artifacts and keys. */
export class Retention {
  readonly #options: RetentionOptions
  readonly #ending = new AbortController()
  #timer: NodeJS.Timeout | undefined

  constructor(options: RetentionOptions) {
    this.#options = options
  }

  /** Looks regularly from now on. */
  begin(): void {
    this.#timer = setInterval(() => {
      void this.expire().catch((error: unknown) => {
        if (this.#ending.signal.aborted) return
        this.#options.log.warn({ event: 'retention.failed', error: messageOf(error) }, 'old records stay for now')
      })
    }, INTERVAL_MS).unref()
  }

  end(): void {
    clearInterval(this.#timer)
    this.#ending.abort()
  }

  /** One look: what is older than the retention goes, and the oldest output beyond its bound. */
  async expire(now = Date.now()): Promise<Expired> {
    const { store, days, log } = this.#options
    const before = new Date(now - days * DAY_MS)
    const expired: Expired = { records: 0, spools: 0 }
    for (const [prefix, records] of [
      ['exec', store.tools],
      ['relic', store.relics],
      ['worker', store.workers],
    ] as const) {
      expired.records += await this.#expireRecords(records, prefix, before)
    }
    await store.idempotencyKeys.expire(before)
    expired.spools = await this.#boundSpools()
    if (expired.records + expired.spools > 0)
      log.info({ event: 'retention.expired', ...expired }, 'what ended long ago was let go of')
    return expired
  }

  async #expireRecords(records: ExpiringRecords, prefix: string, before: Date): Promise<number> {
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
      await sleep(PAUSE_MS, undefined, { signal: this.#ending.signal })
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
