import { setTimeout as sleep } from 'node:timers/promises'
import { ANYONE, type Caller } from '../domain/caller.ts'
import { timestamp } from '../domain/common.ts'
import type { AllStats, ContainerStats, OneContainerStats } from '../domain/stats.ts'
import { unknownResource } from '../errors.ts'
import type { Ownership } from '../store/ownership.ts'
import type { OwnedContainer } from './docker-manager.ts'
import type { KnownContainers } from './known-containers.ts'
import { figuresOf, historyOf, totalsOf } from './stats-figures.ts'
import type { StatsFeed, StatsStreams } from './stats-streams.ts'
import { MAX_SAMPLES } from './stats-streams.ts'

/** Before a stream that ended is opened again for those who follow. */
const REOPEN_PAUSE_MS = 250

type WatchedKind = ContainerStats['kind']
type WatchedContainer = OwnedContainer & { owner: { kind: WatchedKind } }

interface StatsFilter {
  session_id?: string | undefined
  kind?: WatchedKind | undefined
  /** Whoever asks: only what they see is told. */
  caller?: Caller
}

export interface StatsManagerOptions {
  known: KnownContainers
  streams: StatsStreams
  ownership: Ownership
}

/** What our containers use: answered from the samples that their streams brought. */
export class StatsManager {
  readonly #known: KnownContainers
  readonly #streams: StatsStreams
  readonly #ownership: Ownership

  constructor({ known, streams, ownership }: StatsManagerOptions) {
    this.#known = known
    this.#streams = streams
    this.#ownership = ownership
  }

  async all({ session_id, kind, caller = ANYONE }: StatsFilter = {}): Promise<AllStats> {
    const asked = (await this.#known.list()).filter(
      (container): container is WatchedContainer =>
        isWatched(container) &&
        (kind === undefined || container.owner.kind === kind) &&
        (session_id === undefined || container.owner.session === session_id),
    )
    const visible = await this.#ownership.visible(
      caller,
      asked.map(({ owner }) => owner.id),
    )
    const items = await this.#tell(asked.filter(({ owner }) => visible.has(owner.id)))
    return { items, totals: totalsOf(items), sampled_at: timestamp() }
  }

  /**
   * Of one container, by its full id or by the id of its tool run, relic or worker; with what was sampled
   * in the last `historySeconds`, which it goes on sampling for as long.
   */
  async one(id: string, historySeconds?: number): Promise<OneContainerStats> {
    const container = await this.#find(id)
    const stats = container && (await this.#tellOne(container, historySeconds))
    if (stats === undefined) throw unknownResource('container', id)
    return stats
  }

  /** The same with each sample, about once a second, until the container does not run or the signal aborts. */
  async *follow(id: string, signal: AbortSignal, historySeconds?: number): AsyncGenerator<OneContainerStats> {
    let isFirst = true
    let last: string | null = null
    while (!signal.aborted) {
      const container = await this.#find(id)
      if (container === undefined) return
      const stats = await this.#tellOne(container, isFirst ? historySeconds : undefined)
      if (isFirst || stats.sampled_at !== last || !runs(container)) yield stats
      if (!runs(container)) return
      isFirst = false
      last = stats.sampled_at
      const feed = this.#streams.feed(container.id)
      if (feed.isOpen) await feed.next(signal)
      else await sleep(REOPEN_PAUSE_MS, undefined, { signal }).catch(() => {})
    }
  }

  async #find(id: string): Promise<WatchedContainer | undefined> {
    return (await this.#known.list()).find(
      (candidate): candidate is WatchedContainer =>
        isWatched(candidate) && (candidate.id === id || callersId(candidate) === id),
    )
  }

  async #tellOne(container: WatchedContainer, historySeconds: number | undefined): Promise<OneContainerStats> {
    const [stats] = await this.#tell([container], historySeconds)
    if (stats === undefined) throw unknownResource('container', container.id)
    if (historySeconds === undefined) return stats
    const since = new Date(Date.now() - historySeconds * 1000)
    const startedAt = await this.#startedAt(container)
    return { ...stats, history: historyOf(this.#streams.known(container.id)?.samples, startedAt, since) }
  }

  async #tell(containers: readonly WatchedContainer[], historySeconds = 0): Promise<ContainerStats[]> {
    const feeds = containers.map((container) => (runs(container) ? this.#streams.feed(container.id) : undefined))
    for (const feed of feeds) feed?.want(Math.min(historySeconds, MAX_SAMPLES) * 1000)
    const [started] = await Promise.all([
      Promise.all(containers.map((each) => (runs(each) ? this.#startedAt(each) : undefined))),
      this.#streams.ready(feeds.filter((feed) => feed !== undefined)),
    ])
    return containers.map((container, index) => statsOf(container, started[index], feeds[index]))
  }

  /** Of a parked container: when it became a run's. */
  async #startedAt({ id, handedOverAt }: WatchedContainer): Promise<Date | undefined> {
    return handedOverAt ?? this.#known.startedAt(id)
  }
}

/** What callers know a container by: a worker by the name that they gave it. */
function callersId({ owner }: WatchedContainer): string {
  return owner.kind === 'worker' ? (owner.name ?? owner.id) : owner.id
}

function isWatched(container: OwnedContainer): container is WatchedContainer {
  const { kind } = container.owner
  return kind === 'tool' || kind === 'relic' || kind === 'worker'
}

/** A frozen process has its memory still. */
function runs({ status }: OwnedContainer): boolean {
  return status === 'running' || status === 'paused'
}

function statsOf(
  container: WatchedContainer,
  startedAt: Date | undefined,
  feed: StatsFeed | undefined,
): ContainerStats {
  return {
    container_id: container.id,
    name: container.name,
    kind: container.owner.kind,
    id: callersId(container),
    session_id: container.owner.session ?? null,
    status: container.status,
    running_for_seconds:
      startedAt === undefined ? null : Math.max(0, Math.round((Date.now() - startedAt.getTime()) / 100) / 10),
    ...figuresOf(feed?.samples, startedAt),
  }
}
