import { setTimeout as sleep } from 'node:timers/promises'
import type { Engine, OutputChunk } from '../engine/engine.ts'
import { isEngineFault, messageOf } from '../errors.ts'
import { KnownOutput } from './known-output.ts'
import type { Log } from './log.ts'
import { outputAfter } from './output-source.ts'

const RETRY_MS = 500

export interface OutputFollowerOptions {
  engine: Pick<Engine, 'containers' | 'availability'>
  containerId: string
  /** What was taken before. */
  known?: KnownOutput
  take: (chunk: OutputChunk) => Promise<void>
  /** Aborts when the service lets go of the container. */
  detach: AbortSignal
  /** Milliseconds that the last output may take after the end of the process. */
  drainMs: number
  log: Log
}

/**
 * Takes the output of one process of a container, each byte once. When the engine's connections break,
 * an attachment may seem to end as at the end of the process: whoever waits for that end tells of the
 * interruption, and the rest is taken from the engine's log.
 */
export class OutputFollower {
  readonly #options: OutputFollowerOptions
  readonly #known: KnownOutput
  readonly #over = new AbortController()
  readonly #signal: AbortSignal
  #pumping: Promise<void>
  #isPumping = true
  #isInterrupted = false

  /** Begins with an attachment's output, or where there is none with the engine's log behind what is known. */
  constructor(options: OutputFollowerOptions, attached?: AsyncIterable<OutputChunk>) {
    this.#options = options
    this.#known = options.known ?? new KnownOutput()
    this.#signal = AbortSignal.any([options.detach, this.#over.signal])
    this.#pumping = this.#pump(attached)
  }

  /** The connections to the engine broke while the process ran. May be repeated. */
  interrupted(): void {
    this.#isInterrupted = true
    if (!this.#isPumping) this.#pumping = this.#pump()
  }

  /** Resolves when all output of an ended process was taken, or after a while without it. */
  async drained(): Promise<void> {
    const patience = new AbortController()
    const waited = sleep(this.#options.drainMs, undefined, { signal: patience.signal }).catch(() => {})
    await Promise.race([this.#pumping, waited])
    patience.abort()
    this.#over.abort()
  }

  async #pump(attached?: AsyncIterable<OutputChunk>): Promise<void> {
    this.#isPumping = true
    let source = attached
    while (!this.#signal.aborted) {
      this.#isInterrupted = false
      const broke = await this.#take(source ?? this.#log())
      if (!broke && !this.#isInterrupted) break
      source = undefined
      if (broke) await sleep(RETRY_MS, undefined, { signal: this.#signal }).catch(() => {})
    }
    this.#isPumping = false
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
