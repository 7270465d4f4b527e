import { setTimeout as sleep } from 'node:timers/promises'
import type { Engine, ImageInfo } from '../engine/engine.ts'
import { messageOf } from '../errors.ts'
import type { Log } from './log.ts'

const RECONNECT_PAUSE_MS = 1_000
/** Of references; what is beyond is looked up each time. */
const MOST = 1_000

/**
 * What the engine said of images, for as long as it tells of changes: one image that comes, goes or takes
 * another's name, and all is asked anew. While changes are not followed nothing is kept.
 */
export class ImageCache {
  readonly #engine: Engine
  readonly #log: Log
  readonly #known = new Map<string, ImageInfo>()
  readonly #ending = new AbortController()
  #following: Promise<void> = Promise.resolve()
  #isFollowing = false
  /** Counts what made the known void: an answer that was on its way then is not kept. */
  #changes = 0

  constructor(options: { engine: Engine; log: Log }) {
    this.#engine = options.engine
    this.#log = options.log
  }

  /** As the engine's `images.inspect`. What is absent is asked for each time. */
  async inspect(reference: string): Promise<ImageInfo | undefined> {
    const known = this.#known.get(reference)
    if (known !== undefined) return known
    const before = this.#changes
    const image = await this.#engine.images.inspect(reference)
    if (image !== undefined && this.#isFollowing && before === this.#changes && this.#known.size < MOST) {
      this.#known.set(reference, image)
    }
    return image
  }

  /** For a change of the service's own, which the engine may tell of a moment later. */
  forget(): void {
    this.#changes += 1
    this.#known.clear()
  }

  begin(): void {
    this.#following = this.#follow()
  }

  async end(): Promise<void> {
    this.#ending.abort()
    await this.#following
  }

  async #follow(): Promise<void> {
    const { signal } = this.#ending
    while (!signal.aborted) {
      try {
        await this.#engine.availability.restored(signal)
        const changes = await this.#engine.images.changes(signal)
        this.#isFollowing = true
        for await (const _change of changes) this.forget()
      } catch (error) {
        if (signal.aborted) return
        this.#log.warn(
          { event: 'images.watch_broke', error: messageOf(error) },
          'following images broke off, and is begun again',
        )
      } finally {
        this.#isFollowing = false
        this.forget()
      }
      await sleep(RECONNECT_PAUSE_MS, undefined, { signal }).catch(() => {})
    }
  }
}
