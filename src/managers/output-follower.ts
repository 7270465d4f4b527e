import { setTimeout as sleep } from 'node:timers/promises'
import type { Attachment, Engine, OutputChunk } from '../engine/engine.ts'
import type { HalfCloseWatch } from '../engine/half-close.ts'
import { isEngineFault, messageOf } from '../errors.ts'
import { type Moment, mayBeCutOff, now } from './attachment-end.ts'
import type { KnownOutput } from './known-output.ts'
import type { Log } from './log.ts'
import { outputAfter } from './output-source.ts'

const RETRY_MS = 500
/** Output that ends so long before its process is looked for in the log, while that runs. */
const DOUBT_MS = 1_000

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
  /** What is known of the attachment's connection once its stdin has ended. */
  halfClose?: HalfCloseWatch
  log: Log
}

/**
 * Takes the output of one process of a container, each byte once. When connections to the engine break,
 * an attachment may seem to end as at the end of the process. So what ends long before that is not
 * believed, nor where whoever waits for the end tells of an interruption, nor where its connection may
 * have ended with its stdin: then the rest is taken from the engine's log.
 */
export class OutputFollower {
  readonly #options: OutputFollowerOptions
  readonly #known: KnownOutput
  readonly #attached: Attachment | undefined
  readonly #over = new AbortController()
  readonly #signal: AbortSignal
  #pumping: Promise<void>
  #isPumping = true
  /** What is taken now is to be followed by the rest that the log has. */
  #hasRest = false
  #wasInterrupted = false
  #attachmentEnd: Moment | undefined
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
    this.#wasInterrupted = true
    this.#takeRest()
  }

  /**
   * Call it when the process has ended, by the engine's clock at `finishedAt`: resolves when all output was
   * taken, or after a while without it. May be repeated.
   */
  drained(finishedAt?: Date): Promise<void> {
    this.#draining ??= this.#drain(finishedAt).finally(() => this.end())
    return this.#draining
  }

  /** Takes no more. */
  end(): void {
    clearTimeout(this.#doubt)
    this.#over.abort()
  }

  async #drain(finishedAt: Date | undefined): Promise<void> {
    clearTimeout(this.#doubt)
    if (this.#attachmentEnd !== undefined && !this.#wasInterrupted) {
      const { halfClose } = this.#options
      // Where its log was begun for a doubt in the meantime, that was a mistake.
      if (!mayBeCutOff(this.#attachmentEnd, { finishedAt, halfClose })) return
      this.#takeRest()
    }
    if (!(await this.#ends())) {
      // An attachment that does not end with its process is not to be believed either.
      this.#takeRest()
      this.#attached?.close()
      await this.#ends()
    }
  }

  /** True where the output ended in time. */
  async #ends(): Promise<boolean> {
    const patience = new AbortController()
    const late = sleep(this.#options.drainMs, false, { signal: patience.signal }).catch(() => false)
    const ended = await Promise.race([this.#pumping.then(() => true), late])
    patience.abort()
    return ended
  }

  /** What the engine's log has beyond what is taken. */
  #takeRest(): void {
    if (this.#over.signal.aborted) return
    this.#hasRest = true
    if (!this.#isPumping) this.#pumping = this.#pump()
  }

  async #pump(attached?: AsyncIterable<OutputChunk>): Promise<void> {
    this.#isPumping = true
    let source = attached
    while (!this.#signal.aborted) {
      this.#hasRest = false
      const broke = await this.#take(source ?? this.#log())
      if (!broke && !this.#hasRest) {
        if (source !== undefined) this.#attachmentEnded()
        else this.#attachmentEnd = undefined
        break
      }
      source = undefined
      if (broke) await sleep(RETRY_MS, undefined, { signal: this.#signal }).catch(() => {})
    }
    this.#isPumping = false
  }

  #attachmentEnded(): void {
    this.#attachmentEnd = now()
    if (this.#draining !== undefined) return
    this.#doubt = setTimeout(() => void this.#doubtEnd(), DOUBT_MS).unref()
  }

  /** While an engine takes an ended container down it answers nothing about it. */
  async #doubtEnd(): Promise<void> {
    const { engine, containerId } = this.#options
    const state = await engine.containers.inspect(containerId).catch(() => undefined)
    if (this.#draining === undefined && state?.status !== 'exited') this.#takeRest()
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
        if (source === this.#attached?.output) this.#options.halfClose?.gave()
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
