import { setTimeout as sleep } from 'node:timers/promises'
import type { Attachment, Engine, OutputChunk } from '../engine/engine.ts'
import type { HalfClosed } from '../engine/half-close.ts'
import { isEngineFault, messageOf } from '../errors.ts'
import type { KnownOutput } from './known-output.ts'
import type { Log } from './log.ts'
import { outputAfter } from './output-source.ts'

const RETRY_MS = 500
/** Output that ends so long before its process is looked for in the log. */
const DOUBT_MS = 1_000
/** The end of the output and the news of the end of the process come so close to each other. */
const TOGETHER_MS = 150

export interface OutputFollowerOptions {
  engine: Pick<Engine, 'containers' | 'availability'>
  containerId: string
  /** What was taken before; what is taken is added to it. */
  known: KnownOutput
  take: (chunk: OutputChunk) => Promise<void>
  /** Aborts when the service lets go of the container. */
  detach: AbortSignal
  /** Milliseconds that the last output may take after the end of the process. */
  drainMs: number
  /** The engine's log has the output of this process alone: where it is read once more, nothing is taken twice. */
  isLogItsOwn?: boolean
  /** What is known of the attachment's connection once its stdin has ended. */
  halfClosed?: HalfClosed
  log: Log
}

/**
 * Takes the output of one process of a container, each byte once. When connections to the engine break,
 * an attachment may seem to end as at the end of the process. So what ends long before that is not
 * believed, nor where whoever waits for the end tells of an interruption, nor where its connection may
 * have ended with its stdin: then the rest is taken from the engine's log, and that to its end.
 */
export class OutputFollower {
  readonly #options: OutputFollowerOptions
  readonly #known: KnownOutput
  readonly #attached: Attachment | undefined
  readonly #over = new AbortController()
  readonly #signal: AbortSignal
  #pumping: Promise<void>
  #isPumping = true
  /** The output is that of the engine's log. */
  #isOfLog = false
  #isInterrupted = false
  #attachmentEndedAt: number | undefined
  #doubt: NodeJS.Timeout | undefined
  #draining: Promise<void> | undefined

  /** Begins with an attachment, or where there is none with the engine's log behind what is known. */
  constructor(options: OutputFollowerOptions, attached?: Attachment) {
    this.#options = options
    this.#known = options.known
    this.#attached = attached
    this.#signal = AbortSignal.any([options.detach, this.#over.signal])
    this.#pumping = this.#pump(attached?.output)
  }

  /** The connections to the engine broke while the process ran. May be repeated. */
  interrupted(): void {
    if (this.#over.signal.aborted) return
    this.#isInterrupted = true
    if (!this.#isPumping) this.#pumping = this.#pump()
  }

  /** Call it when the process has ended: resolves when all output was taken, or after a while without it. May be repeated. */
  drained(): Promise<void> {
    this.#draining ??= this.#drain().finally(() => this.end())
    return this.#draining
  }

  /** Takes no more. */
  end(): void {
    clearTimeout(this.#doubt)
    this.#over.abort()
  }

  async #drain(): Promise<void> {
    clearTimeout(this.#doubt)
    if (this.#isDoubtful()) this.interrupted()
    if (!(await this.#ends())) {
      // An attachment that does not end with its process is not to be believed either.
      this.interrupted()
      this.#attached?.close()
      await this.#ends()
    }
  }

  /** True where there may be more than came, now that the process has ended. */
  #isDoubtful(): boolean {
    const endedAt = this.#attachmentEndedAt
    // What was followed since before the end is read again to its end.
    if (endedAt === undefined) return this.#isOfLog && this.#options.isLogItsOwn === true
    return performance.now() - endedAt > TOGETHER_MS || this.#options.halfClosed?.isDoubtful(endedAt) === true
  }

  /** True where the output ended in time. */
  async #ends(): Promise<boolean> {
    const patience = new AbortController()
    const late = sleep(this.#options.drainMs, false, { signal: patience.signal }).catch(() => false)
    const ended = await Promise.race([this.#pumping.then(() => true), late])
    patience.abort()
    return ended
  }

  async #pump(attached?: AsyncIterable<OutputChunk>): Promise<void> {
    this.#isPumping = true
    let source = attached
    while (!this.#signal.aborted) {
      this.#isInterrupted = false
      this.#isOfLog = source === undefined
      const broke = await this.#take(source ?? this.#log())
      if (!broke && !this.#isInterrupted) {
        if (source !== undefined) this.#attachmentEnded()
        else this.#attachmentEndedAt = undefined
        break
      }
      source = undefined
      if (broke) await sleep(RETRY_MS, undefined, { signal: this.#signal }).catch(() => {})
    }
    this.#isPumping = false
  }

  #attachmentEnded(): void {
    this.#attachmentEndedAt = performance.now()
    if (this.#draining !== undefined) return
    this.#doubt = setTimeout(() => this.interrupted(), DOUBT_MS).unref()
  }

  async *#log(): AsyncGenerator<OutputChunk> {
    const { engine, containerId } = this.#options
    await engine.availability.restored(this.#signal)
    yield* outputAfter(engine.containers, containerId, this.#known, this.#signal)
  }

  /** True where the source broke off in the middle. */
  async #take(source: AsyncIterable<OutputChunk>): Promise<boolean> {
    const { take, log, containerId } = this.#options
    try {
      for await (const chunk of source) {
        if (!this.#isOfLog) this.#options.halfClosed?.gave()
        this.#known.add(chunk)
        await take(chunk)
      }
      return false
    } catch (error) {
      if (this.#signal.aborted || isEngineFault(error, 'not_found')) return false
      log.warn(
        { event: 'container.output_broke', container_id: containerId, error: messageOf(error) },
        'the output of a container broke off',
      )
      return true
    }
  }
}
