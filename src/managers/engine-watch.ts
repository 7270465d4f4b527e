import { setTimeout as sleep } from 'node:timers/promises'
import type { Engine } from '../engine/engine.ts'
import { messageOf } from '../errors.ts'
import { ownedBy } from '../labels.ts'
import type { Store } from '../store/store.ts'
import type { DockerManager } from './docker-manager.ts'
import type { KnownContainers } from './known-containers.ts'
import type { Log } from './log.ts'
import type { RunQueue } from './queue.ts'
import type { Reconciler } from './reconciler.ts'

export interface EngineWatchOptions {
  engine: Engine
  store: Store
  docker: DockerManager
  known: KnownContainers
  queue: Pick<RunQueue, 'suspend' | 'resume'>
  reconciler: Reconciler
  log: Log
}

const RECONNECT_PAUSE_MS = 1_000

/** Stays in touch with the engine: tells when it goes and comes back, and reconciles after each gap. */
export class EngineWatch {
  readonly #options: EngineWatchOptions
  readonly #ending = new AbortController()
  #offChange: () => void = () => {}
  #following: Promise<void> = Promise.resolve()

  constructor(options: EngineWatchOptions) {
    this.#options = options
  }

  begin(): void {
    this.#offChange = this.#options.engine.availability.onChange((available) => void this.#changed(available))
    this.#following = this.#follow()
  }

  async end(): Promise<void> {
    this.#ending.abort()
    this.#offChange()
    await this.#following
  }

  async #changed(available: boolean): Promise<void> {
    const { queue, store, log } = this.#options
    // Runs that wait keep their turn: an engine that is away would fail them one by one.
    if (available) queue.resume('engine')
    else queue.suspend('engine')
    if (available) log.info({ event: 'engine.available' }, 'the engine answers again')
    else log.error({ event: 'engine.unavailable' }, 'the engine does not answer')
    const type = available ? 'engine.available' : 'engine.unavailable'
    await store.events.append({ type, session_id: null, owner: null, data: {} }).catch((error: unknown) => {
      log.error({ event: 'event.lost', type, error: messageOf(error) }, 'an event could not be stored')
    })
  }

  /** Follows the engine's events. They are a hint: whatever happened while nobody listened is found by reconciling. */
  async #follow(): Promise<void> {
    const { engine, store, known, reconciler, log } = this.#options
    const { signal } = this.#ending
    for (let isFirst = true; !signal.aborted; isFirst = false) {
      const round = new AbortController()
      try {
        await engine.availability.restored(signal)
        const events = await engine.events(ownedBy(store.instance), AbortSignal.any([signal, round.signal]))
        known.followed()
        // Reconciled while the events are followed: between the two nothing is missed.
        if (!isFirst) await reconciler.reconcile()
        for await (const { action, containerId } of events) this.#note(action, containerId)
      } catch (error) {
        if (signal.aborted) return
        log.warn(
          { event: 'engine.watch_broke', error: messageOf(error) },
          'following the engine broke off, and is begun again',
        )
      } finally {
        known.unfollowed()
        round.abort()
      }
      await sleep(RECONNECT_PAUSE_MS, undefined, { signal }).catch(() => {})
    }
  }

  #note(action: string, containerId: string): void {
    const { docker, known, log } = this.#options
    known.heard(action, containerId)
    if (action !== 'destroy' || docker.isRemoving(containerId)) return
    log.warn(
      { event: 'container.removed_externally', container_id: containerId },
      'a container of this service was removed by somebody else',
    )
  }
}
