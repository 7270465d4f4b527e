import { setTimeout as sleep } from 'node:timers/promises'
import { ANYONE, type Caller } from '../domain/caller.ts'
import { timestamp } from '../domain/common.ts'
import type { AllStats, ContainerStats, StatsTotals } from '../domain/stats.ts'
import type { ContainerState, Engine, StatsSample } from '../engine/engine.ts'
import { unknownResource } from '../errors.ts'
import type { Ownership } from '../store/ownership.ts'
import type { DockerManager, OwnedContainer } from './docker-manager.ts'
import { megabytes } from './usage-meter.ts'

/** A first answer needs two samples of each container: the first comes within a second, the other a second later. */
const FIRST_SAMPLES_MS = 2_500
/** A stream that nobody asked about for this long is closed. */
const IDLE_MS = 30_000
const SWEEP_MS = 5_000

/** One open stats stream: the last two samples of a container. */
class Watch {
  readonly #abort = new AbortController()
  /** Resolves with the second sample, or with the stream's end. */
  readonly ready: Promise<void>
  previous: StatsSample | undefined
  last: StatsSample | undefined
  askedAt = Date.now()
  ended = false

  constructor(engine: Engine, containerId: string) {
    this.ready = new Promise((resolve) => {
      void this.#read(engine, containerId, resolve)
    })
  }

  close(): void {
    this.#abort.abort()
  }

  async #read(engine: Engine, containerId: string, ready: () => void): Promise<void> {
    try {
      for await (const sample of engine.containers.stats(containerId, this.#abort.signal)) {
        this.previous = this.last
        this.last = sample
        if (this.previous !== undefined) ready()
      }
    } catch {
      // The engine is away, or the container is gone: the next question opens a new stream.
    } finally {
      this.ended = true
      ready()
    }
  }
}

type WatchedKind = ContainerStats['kind']

interface StatsFilter {
  session_id?: string | undefined
  kind?: WatchedKind | undefined
  /** Whoever asks: only what they see is told. */
  caller?: Caller
}

/** What our containers use: every container sampled at once, by its own stream, and answered from memory. */
export class StatsManager {
  readonly #engine: Engine
  readonly #docker: DockerManager
  readonly #ownership: Ownership
  readonly #watches = new Map<string, Watch>()
  readonly #sweeper: NodeJS.Timeout

  constructor(options: { engine: Engine; docker: DockerManager; ownership: Ownership }) {
    this.#engine = options.engine
    this.#docker = options.docker
    this.#ownership = options.ownership
    this.#sweeper = setInterval(() => this.#closeIdle(), SWEEP_MS).unref()
  }

  async all(filter: StatsFilter = {}): Promise<AllStats> {
    const { session_id, kind, caller = ANYONE } = filter
    const watched = (await this.#docker.list({ session: session_id })).filter(
      ({ owner }) => isWatchedKind(owner.kind) && (kind === undefined || owner.kind === kind),
    )
    const visible = await this.#ownership.visible(
      caller,
      watched.map(({ owner }) => owner.id),
    )
    const containers = watched.filter(({ owner }) => visible.has(owner.id))
    const items = await this.#sample(containers)
    return { items, totals: totalsOf(items), sampled_at: timestamp() }
  }

  /** Of one container, by its full id or by the id of its tool run, relic or worker. */
  async one(id: string): Promise<ContainerStats> {
    const container = (await this.#docker.list()).find(
      (candidate) => isWatchedKind(candidate.owner.kind) && (candidate.id === id || callersId(candidate.owner) === id),
    )
    const [stats] = container === undefined ? [] : await this.#sample([container])
    if (stats === undefined) throw unknownResource('container', id)
    return stats
  }

  /** The same about once a second, until the container does not run or the signal aborts. */
  async *follow(id: string, signal: AbortSignal): AsyncGenerator<ContainerStats> {
    let last: string | null = null
    while (!signal.aborted) {
      const stats = await this.one(id)
      if (stats.sampled_at !== last || stats.status !== 'running') yield stats
      if (stats.status !== 'running') return
      last = stats.sampled_at
      await sleep(1_000, undefined, { signal }).catch(() => {})
    }
  }

  close(): void {
    clearInterval(this.#sweeper)
    for (const watch of this.#watches.values()) watch.close()
    this.#watches.clear()
  }

  async #sample(containers: readonly OwnedContainer[]): Promise<ContainerStats[]> {
    const watches = containers.map((container) =>
      container.status === 'running' ? this.#watch(container.id) : undefined,
    )
    const patience = new AbortController()
    await Promise.race([
      Promise.all(watches.map((watch) => watch?.ready)),
      sleep(FIRST_SAMPLES_MS, undefined, { signal: patience.signal }).catch(() => {}),
    ])
    patience.abort()
    const states = await Promise.all(containers.map((container) => this.#startedAt(container)))
    return containers.map((container, index) => statsOf(container, states[index], watches[index]))
  }

  #watch(containerId: string): Watch {
    let watch = this.#watches.get(containerId)
    if (watch === undefined || watch.ended) {
      watch = new Watch(this.#engine, containerId)
      this.#watches.set(containerId, watch)
    }
    watch.askedAt = Date.now()
    return watch
  }

  async #startedAt(container: OwnedContainer): Promise<Date | undefined> {
    if (container.status !== 'running') return undefined
    const state: ContainerState | undefined = await this.#engine.containers.inspect(container.id)
    return state?.startedAt
  }

  #closeIdle(): void {
    for (const [id, watch] of this.#watches) {
      if (!watch.ended && Date.now() - watch.askedAt < IDLE_MS) continue
      watch.close()
      this.#watches.delete(id)
    }
  }
}

/** What callers know a container by: a worker by the name that they gave it. */
function callersId(owner: OwnedContainer['owner']): string {
  return owner.kind === 'worker' ? (owner.name ?? owner.id) : owner.id
}

function isWatchedKind(kind: string): kind is WatchedKind {
  return kind === 'tool' || kind === 'relic' || kind === 'worker'
}

function statsOf(container: OwnedContainer, startedAt: Date | undefined, watch: Watch | undefined): ContainerStats {
  const { owner } = container
  const sample = watch?.last
  return {
    container_id: container.id,
    name: container.name,
    kind: owner.kind as WatchedKind,
    id: callersId(owner),
    session_id: owner.session ?? null,
    status: container.status,
    running_for_seconds:
      startedAt === undefined ? null : Math.max(0, Math.round((Date.now() - startedAt.getTime()) / 100) / 10),
    cpu_percent: cpuPercent(watch?.previous, sample),
    memory_used_mb: megabytes(sample?.memoryBytes ?? null),
    memory_limit_mb: megabytes(sample?.memoryLimitBytes ?? null),
    memory_percent:
      sample === undefined || sample.memoryLimitBytes === 0
        ? null
        : percent(sample.memoryBytes / sample.memoryLimitBytes),
    network_rx_mb: megabytes(sample?.networkRxBytes ?? null),
    network_tx_mb: megabytes(sample?.networkTxBytes ?? null),
    disk_read_mb: megabytes(sample?.diskReadBytes ?? null),
    disk_write_mb: megabytes(sample?.diskWriteBytes ?? null),
    pids: sample?.pids ?? null,
    sampled_at: sample === undefined ? null : timestamp(sample.at),
  }
}

/** Of one core, between two samples; null where there are not two. */
export function cpuPercent(previous: StatsSample | undefined, last: StatsSample | undefined): number | null {
  if (previous === undefined || last === undefined) return null
  const wall = last.at.getTime() - previous.at.getTime()
  if (wall <= 0) return null
  return percent((last.cpuNanoseconds - previous.cpuNanoseconds) / (wall * 1e6))
}

function percent(ratio: number): number {
  return Math.max(0, Math.round(ratio * 10_000) / 100)
}

/** Sums over what is known. */
export function totalsOf(items: readonly ContainerStats[]): StatsTotals {
  const sum = (pick: (item: ContainerStats) => number | null) =>
    Math.round(items.reduce((total, item) => total + (pick(item) ?? 0), 0) * 100) / 100
  return {
    containers: items.length,
    running: items.filter((item) => item.status === 'running').length,
    cpu_percent: sum((item) => item.cpu_percent),
    memory_used_mb: sum((item) => item.memory_used_mb),
    memory_limit_mb: sum((item) => item.memory_limit_mb),
    network_rx_mb: sum((item) => item.network_rx_mb),
    network_tx_mb: sum((item) => item.network_tx_mb),
    disk_read_mb: sum((item) => item.disk_read_mb),
    disk_write_mb: sum((item) => item.disk_write_mb),
    pids: sum((item) => item.pids),
  }
}
