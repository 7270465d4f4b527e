import { setTimeout as sleep } from 'node:timers/promises'
import { timestamp } from '../domain/common.ts'
import type { ToolRun, ToolStatus } from '../domain/tool.ts'
import type { Containers, OutputChunk } from '../engine/engine.ts'
import { messageOf } from '../errors.ts'
import type { SpoolWriter } from '../store/spool-writer.ts'
import type { Spools } from '../store/spools.ts'
import type { Log } from './log.ts'
import { OutputCapture } from './output-capture.ts'
import { outputAfter, spooledOutput } from './output-source.ts'

/** After its end, a container's output stream ends within moments, unless the engine died with it. */
const DRAIN_MS = 10_000

type OutputView = Pick<
  ToolRun,
  'stdout' | 'stderr' | 'stdout_bytes' | 'stderr_bytes' | 'stdout_truncated' | 'stderr_truncated'
>

/** What one tool run writes: head and tail for its answer, and the spool for its log. */
export class RunOutput {
  readonly #spools: Spools
  readonly #runId: string
  readonly #log: Log
  readonly #capture = new OutputCapture()
  #spool: SpoolWriter | undefined
  #pumping: Promise<void> = Promise.resolve()

  constructor(options: { spools: Spools; runId: string; log: Log }) {
    this.#spools = options.spools
    this.#runId = options.runId
    this.#log = options.log
  }

  /** Opens the spool, which begins with the run's status. */
  async open(status: ToolStatus): Promise<void> {
    this.#spool = await this.#spools.open(this.#runId)
    if (this.#spool.flushed === 0) this.state(status)
  }

  /** Head and tail of each stream so far, and how much of it there was. */
  get view(): OutputView {
    const { stdout, stderr } = this.#capture
    return {
      stdout: stdout.text(),
      stderr: stderr.text(),
      stdout_bytes: stdout.bytes,
      stderr_bytes: stderr.bytes,
      stdout_truncated: stdout.truncated,
      stderr_truncated: stderr.truncated,
    }
  }

  /** Tells followers of the log that the status changed. */
  state(status: ToolStatus): void {
    this.#spool?.state({ status, at: timestamp() })
  }

  async add(chunk: OutputChunk): Promise<void> {
    this.#capture.add(chunk)
    await this.#spool?.append(chunk.stream, chunk.bytes)
  }

  /** Takes all that comes from a container, until its output ends or the service lets go. */
  pump(output: AsyncIterable<OutputChunk>, detach: AbortSignal): void {
    this.#pumping = this.#pump(output, detach)
  }

  /** As `pump`, for a container that an earlier process started: what the spool has is not taken again. */
  async resume(containers: Containers, containerId: string, detach: AbortSignal): Promise<void> {
    const known = await spooledOutput(this.#spools, this.#runId, (chunk) => this.#capture.add(chunk))
    this.pump(outputAfter(containers, containerId, known, detach), detach)
  }

  /** Resolves when all output of an ended container has been taken. */
  async drained(): Promise<void> {
    const patience = new AbortController()
    const waited = sleep(DRAIN_MS, undefined, { signal: patience.signal }).catch(() => {})
    await Promise.race([this.#pumping, waited])
    patience.abort()
  }

  /** Ends the log. */
  async seal(): Promise<void> {
    await this.#spools.seal(this.#runId)
  }

  async #pump(output: AsyncIterable<OutputChunk>, detach: AbortSignal): Promise<void> {
    try {
      for await (const chunk of output) await this.add(chunk)
    } catch (error) {
      if (detach.aborted) return
      this.#log.warn(
        { event: 'tool.output_broke', execution_id: this.#runId, error: messageOf(error) },
        'the output of a run broke off',
      )
    }
  }
}
