import { timestamp } from '../domain/common.ts'
import type { ToolRun, ToolStatus } from '../domain/tool.ts'
import type { Attachment, OutputChunk } from '../engine/engine.ts'
import type { SpoolWriter } from '../store/spool-writer.ts'
import type { Spools } from '../store/spools.ts'
import { KnownOutput } from './known-output.ts'
import type { Log } from './log.ts'
import { OutputCapture } from './output-capture.ts'
import { OutputFollower, type OutputFollowerOptions } from './output-follower.ts'
import { tellSpool } from './output-source.ts'

/** After its end, a container's output stream ends within moments, unless the engine died with it. */
const DRAIN_MS = 10_000

/** Whose output it is. */
type OutputOrigin = Pick<OutputFollowerOptions, 'engine' | 'containerId' | 'detach' | 'halfClose'>

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
  #follower: OutputFollower | undefined

  constructor(options: { spools: Spools; runId: string; log: Log }) {
    this.#spools = options.spools
    this.#runId = options.runId
    this.#log = options.log
  }

  /** Opens the spool, which begins with the run's status. */
  async open(run: Pick<ToolRun, 'status' | 'queued_at'>): Promise<void> {
    this.#spool = await beginLog(this.#spools, this.#runId, run)
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

  /** Takes all that a container writes, from its attachment on. */
  follow(source: OutputOrigin, attached: Attachment): void {
    this.#follower = this.#follow(source, new KnownOutput(), attached)
  }

  /** As `follow`, for a container that an earlier process started: what the spool has is not taken again. */
  async resume(source: OutputOrigin): Promise<void> {
    const known = new KnownOutput()
    await tellSpool(this.#spools, this.#runId, [known, this.#capture])
    this.#follower = this.#follow(source, known)
  }

  /** The connections to the engine broke while the container ran. */
  interrupted(): void {
    this.#follower?.interrupted()
  }

  /** Resolves when all output of a container that ended, by the engine's clock at `finishedAt`, has been taken. */
  async drained(finishedAt?: Date): Promise<void> {
    await this.#follower?.drained(finishedAt)
  }

  /** Ends the log. */
  async seal(): Promise<void> {
    this.#follower?.end()
    await this.#spools.seal(this.#runId)
  }

  #follow(source: OutputOrigin, known: KnownOutput, attached?: Attachment): OutputFollower {
    const take = (chunk: OutputChunk) => this.add(chunk)
    return new OutputFollower({ ...source, known, take, drainMs: DRAIN_MS, log: this.#log }, attached)
  }
}

/** Opens the log of a run, which begins with its status, so that it can be written and followed. */
export async function beginLog(
  spools: Spools,
  runId: string,
  { status, queued_at }: Pick<ToolRun, 'status' | 'queued_at'>,
): Promise<SpoolWriter> {
  const spool = await spools.open(runId)
  if (spool.isEmpty) spool.state({ status, at: queued_at })
  return spool
}
