import { EventEmitter, once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Containers, StatsSample } from '../engine/engine.ts'
import { SampleRing } from './sample-ring.ts'

/** Ten minutes of one a second. */
export const MAX_SAMPLES = 600
/** A stream that nobody asked about for this long is closed. */
const IDLE_MS = 30_000
const SWEEP_MS = 5_000
/** Samples of a container that nobody asks about any more are let go of. */
const KEPT_MS = 3_600_000
/** CPU between two samples that are closer than this says nothing. */
const LEAST_GAP_MS = 100
/** Between the two single samples of a first answer. */
const ONE_SHOT_GAP_MS = 250
/** An engine samples all containers that are watched in one round a second, and begins with a stream where none was. */
const ROUND_MS = 1_000
/** How long a first answer waits for a sample of each container, and for a second one where that comes so soon. */
const FIRST_SAMPLE_MS = 2_500
const SECOND_SAMPLE_MS = 1_100

export interface StatsStreamsOptions {
  containers: Pick<Containers, 'stats' | 'sample'>
  /** The engine gives a single sample at once. */
  oneShot: boolean
}

/** What one container uses: one stream of the engine for all who ask, and its last samples. */
export class StatsFeed {
  readonly samples = new SampleRing(MAX_SAMPLES)
  readonly #options: StatsStreamsOptions
  readonly #containerId: string
  /** `change` with each sample, and when the stream ends. */
  readonly #told = new EventEmitter().setMaxListeners(0)
  #stream: AbortController | undefined
  /** Of the stream that is open, or was open last. */
  #sinceOpened = 0
  /** When its first sample came. */
  #firstAt = 0
  #isSampling = false
  #watchers = 0
  #wantedUntil = 0

  constructor(options: StatsStreamsOptions, containerId: string) {
    this.#options = options
    this.#containerId = containerId
  }

  get isOpen(): boolean {
    return this.#stream !== undefined
  }

  /** Somebody asks: the stream is opened where it is not, and stays open for at least so long. */
  want(milliseconds = IDLE_MS): void {
    this.#wantedUntil = Math.max(this.#wantedUntil, performance.now() + Math.max(IDLE_MS, milliseconds))
    const stream = this.#open()
    if (this.#options.oneShot && !this.has(2)) void this.#sampleTwice(stream)
  }

  /** Tells each sample of the stream, which it holds open, until the answered function is called. */
  watch(onSample: (sample: StatsSample) => void): () => void {
    const tell = (sample?: StatsSample) => {
      if (sample !== undefined) onSample(sample)
    }
    this.#watchers += 1
    this.#told.on('change', tell)
    this.#open()
    return () => {
      this.#told.off('change', tell)
      this.#watchers -= 1
      this.#wantedUntil = Math.max(this.#wantedUntil, performance.now())
    }
  }

  /** True where that many samples came since the stream was opened, or none will come. */
  has(count: number): boolean {
    return this.#sinceOpened >= count || !this.isOpen
  }

  /** True where a second sample is to come, and not later than that. */
  expectsSecond(before: number): boolean {
    const gap = this.#options.oneShot ? ONE_SHOT_GAP_MS : ROUND_MS
    return !this.has(2) && this.#sinceOpened === 1 && this.#firstAt + gap <= before
  }

  /** Resolves when that many came, or none will come, or on abort. */
  async until(count: number, signal: AbortSignal): Promise<void> {
    while (!this.has(count) && !signal.aborted) await this.next(signal)
  }

  /** Resolves with the next sample, the stream's end, or on abort. */
  async next(signal: AbortSignal): Promise<void> {
    if (!this.isOpen || signal.aborted) return
    await once(this.#told, 'change', { signal }).catch(() => {})
  }

  /** Closes the stream where nobody wants it; true where the samples can be let go of, too. */
  sweep(): boolean {
    if (this.#watchers > 0) return false
    const unwanted = performance.now() - this.#wantedUntil
    if (unwanted > 0) this.close()
    return !this.isOpen && (unwanted > KEPT_MS || (unwanted > 0 && this.samples.length === 0))
  }

  close(): void {
    const stream = this.#stream
    if (stream === undefined) return
    this.#stream = undefined
    stream.abort()
    this.#told.emit('change')
  }

  #open(): AbortController {
    if (this.#stream !== undefined) return this.#stream
    const stream = new AbortController()
    this.#stream = stream
    this.#sinceOpened = 0
    void this.#read(stream)
    return stream
  }

  async #read(stream: AbortController): Promise<void> {
    try {
      for await (const sample of this.#options.containers.stats(this.#containerId, stream.signal))
        this.#take(stream, sample)
    } catch {
      // The engine is away, or the container is gone: the next question opens a new stream.
    } finally {
      if (this.#stream === stream) this.close()
    }
  }

  /** For an answer that need not wait for the stream's second round. */
  async #sampleTwice(stream: AbortController): Promise<void> {
    if (this.#isSampling) return
    this.#isSampling = true
    try {
      for (let count = 1; ; count++) {
        const sample = await this.#options.containers.sample(this.#containerId)
        if (sample !== undefined) this.#take(stream, sample)
        if (count === 2) return
        await sleep(ONE_SHOT_GAP_MS, undefined, { signal: stream.signal, ref: false })
        if (this.has(2)) return
      }
    } catch {
      // The stream tells the same, a little later.
    } finally {
      this.#isSampling = false
    }
  }

  #take(stream: AbortController, sample: StatsSample): void {
    if (this.#stream !== stream) return
    const last = this.samples.at(-1)
    if (last !== undefined && Math.abs(sample.at.getTime() - last.at.getTime()) < LEAST_GAP_MS) {
      // The stream and a single sample tell the same moment.
      if (this.#sinceOpened > 0) return
    } else this.samples.push(sample)
    if (this.#sinceOpened === 0) this.#firstAt = performance.now()
    this.#sinceOpened += 1
    this.#told.emit('change', sample)
  }
}

/** The stats streams that are open, one for each container, and the samples of those that were. */
export class StatsStreams {
  readonly #options: StatsStreamsOptions
  readonly #feeds = new Map<string, StatsFeed>()
  readonly #sweeper: NodeJS.Timeout

  constructor(options: StatsStreamsOptions) {
    this.#options = options
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS).unref()
  }

  /** Of a container; it has no stream until somebody wants one. */
  feed(containerId: string): StatsFeed {
    let feed = this.#feeds.get(containerId)
    if (feed === undefined) {
      feed = new StatsFeed(this.#options, containerId)
      this.#feeds.set(containerId, feed)
    }
    return feed
  }

  /** Undefined where nobody asked for its stream. */
  known(containerId: string): StatsFeed | undefined {
    return this.#feeds.get(containerId)
  }

  /** Resolves when each has samples to tell of, or has kept the others waiting for too long. */
  async ready(feeds: readonly StatsFeed[]): Promise<void> {
    const began = performance.now()
    await within(FIRST_SAMPLE_MS, feeds, 1)
    const until = began + SECOND_SAMPLE_MS
    const soon = feeds.filter((feed) => feed.expectsSecond(until))
    await within(until - performance.now(), soon, 2)
  }

  /** The container is gone, and its samples with it. */
  forget(containerId: string): void {
    this.#feeds.get(containerId)?.close()
    this.#feeds.delete(containerId)
  }

  close(): void {
    clearInterval(this.#sweeper)
    for (const feed of this.#feeds.values()) feed.close()
    this.#feeds.clear()
  }

  #sweep(): void {
    for (const [id, feed] of this.#feeds) if (feed.sweep()) this.#feeds.delete(id)
  }
}

async function within(milliseconds: number, feeds: readonly StatsFeed[], count: number): Promise<void> {
  const waiting = feeds.filter((feed) => !feed.has(count))
  if (waiting.length === 0) return
  const over = new AbortController()
  const timer = setTimeout(() => over.abort(), milliseconds)
  await Promise.all(waiting.map((feed) => feed.until(count, over.signal)))
  clearTimeout(timer)
}
