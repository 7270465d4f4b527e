import { timestamp } from '../domain/common.ts'
import type { Relic, RelicStatus, StartRelic } from '../domain/relic.ts'
import { AppError } from '../errors.ts'
import type { Entry } from '../store/records.ts'
import type { SpoolWriter } from '../store/spool-writer.ts'
import type { Store } from '../store/store.ts'

export type RelicEntry = Entry<StartRelic, Relic>

/** Row status of a relic that callers do not see any more. */
export const DELETED = 'deleted'

/** What is known of a relic: its row in the store, kept in step with each change, and its output. */
export class RelicRecord {
  readonly entry: RelicEntry
  readonly request: StartRelic
  readonly #store: Store
  #spool: SpoolWriter | undefined

  constructor(store: Store, entry: RelicEntry, request: StartRelic) {
    this.#store = store
    this.entry = entry
    this.request = request
  }

  /** Changes what callers see, in the store and, where the status changes, in its log. */
  async update(change: Partial<Relic> & { status: RelicStatus }, rowStatus: string = change.status): Promise<void> {
    const told = this.entry.view.status !== change.status
    Object.assign(this.entry.view, change)
    this.entry.status = rowStatus
    await this.#store.relics.update(this.entry)
    if (told) this.#spool?.state({ status: change.status, at: timestamp() })
  }

  /** Where its output goes from now on. */
  async openSpool(): Promise<SpoolWriter> {
    this.#spool = await this.#store.spools.open(this.entry.id)
    return this.#spool
  }

  get spool(): SpoolWriter {
    if (this.#spool !== undefined) return this.#spool
    throw new Error('a relic was started before its spool was open')
  }

  async sealSpool(): Promise<void> {
    await this.#store.spools.seal(this.entry.id)
  }

  get containerId(): string {
    if (this.entry.containerId !== null) return this.entry.containerId
    throw new AppError('conflict', `Relic "${this.entry.id}" has no container`)
  }
}
