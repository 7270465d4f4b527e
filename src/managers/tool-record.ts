import { setTimeout as sleep } from 'node:timers/promises'
import type { ExecuteTool, RunTimings, ToolRun, ToolStatus } from '../domain/tool.ts'
import { AppError, messageOf } from '../errors.ts'
import type { Entry } from '../store/records.ts'
import type { Store } from '../store/store.ts'
import type { Log } from './log.ts'
import type { RunOutput } from './run-output.ts'

export type ToolEntry = Entry<ExecuteTool, ToolRun>

const STORE_RETRY_MS = 1_000

type Change = Partial<ToolRun> & { status: ToolStatus }

/** What is known of a run: its row in the store, and the changes of state in its log. */
export class ToolRecord {
  readonly entry: ToolEntry
  readonly #store: Store
  readonly #output: RunOutput
  readonly #log: Log

  constructor(options: { entry: ToolEntry; store: Store; output: RunOutput; log: Log }) {
    this.entry = options.entry
    this.#store = options.store
    this.#output = options.output
    this.#log = options.log
  }

  /** Stores a change, and tells those that follow the log where it is one of status. */
  async update(change: Change, containerId?: string): Promise<void> {
    const isNews = this.#apply(change, containerId)
    await this.#store.tools.update(this.entry)
    if (isNews) this.#output.state(change.status)
  }

  /** True where the status is another one now. */
  #apply(change: Change, containerId: string | undefined): boolean {
    const { entry } = this
    const isNews = entry.view.status !== change.status
    Object.assign(entry.view, change)
    entry.status = change.status
    if (containerId !== undefined) entry.containerId = containerId
    return isNews
  }

  /** As `update`, again and again where the store cannot be written, until the signal aborts. */
  async insist(change: Change, signal: AbortSignal, containerId?: string): Promise<void> {
    for (;;) {
      try {
        return await this.update(change, containerId)
      } catch (error) {
        if (!(error instanceof AppError) || !['store_unavailable', 'disk_low'].includes(error.code)) throw error
        this.#failed(error, 'the state of a run could not be stored, which is tried again')
        await sleep(STORE_RETRY_MS, undefined, { signal })
      }
    }
  }

  /** Of a process that runs: those that follow the log are told at once, and what the store cannot take now it is told with the end. */
  async note(change: Change, containerId: string): Promise<void> {
    if (this.#apply(change, containerId)) this.#output.state(change.status)
    await this.#store.tools.update(this.entry).catch((error: unknown) => {
      this.#failed(error, 'the state of a run could not be stored')
    })
  }

  /** Stores the end, again and again where the store fails, until the signal aborts. */
  async storeEnd(signal: AbortSignal, onFailure: () => void): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#store.settle(this.entry)
        return
      } catch (error) {
        this.#failed(error, 'the end of a run could not be stored, which is tried again')
        onFailure()
        await sleep(STORE_RETRY_MS, undefined, { signal }).catch(() => {})
      }
    }
  }

  /** Notes how long a phase took that began at a time of `performance.now()`. */
  timed(phase: keyof RunTimings, began: number): void {
    this.entry.view.timings[phase] = Math.round((performance.now() - began) * 10) / 10
  }

  #failed(error: unknown, message: string): void {
    this.#log.error({ event: 'tool.store_failed', execution_id: this.entry.id, error: messageOf(error) }, message)
  }
}
