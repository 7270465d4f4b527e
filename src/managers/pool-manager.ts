import { setTimeout as sleep } from 'node:timers/promises'
import { isEngineFault, messageOf } from '../errors.ts'
import type { ColdStarts } from './cold-starts.ts'
import type { Log } from './log.ts'
import { newId } from './names.ts'
import { ParkedContainer, type ParkingDeps } from './parked-container.ts'
import type { ParkingPlan } from './parking-plan.ts'

export interface PoolManagerOptions extends ParkingDeps {
  /** So many containers are parked at most; 0 for none. */
  max: number
  /** Their memory limits together, in bytes. */
  memoryBytes: number
  /** Nothing is parked while one is under way. */
  coldStarts: ColdStarts
  /** False while new containers are not to be made: the engine is away, the disk is full, the service stops. */
  mayPark: () => boolean
  /** True while runs wait for their turn. */
  isBusy: () => boolean
  log: Log
}

/** What was asked for of one kind of container. */
interface Demand {
  readonly plan: ParkingPlan
  readonly parked: ParkedContainer[]
  /** So many are to be parked: one more for each that was missing, one less for each while without use. */
  target: number
  /** Runs of the kind under way. */
  running: number
  /** By `performance.now()`. */
  wantedAt: number
  /** When the target was last made less for want of use. */
  shrunkAt: number
  /** None is parked before. */
  retryAt: number
}

/** Nothing is parked while a run is under way that asked for a container, nor for so long after it; but at the latest after so long. */
const QUIET_MS = 10
const MOST_QUIET_MS = 1_000
/** After a failure it is waited for so long: for the engine where that is away, otherwise with the kind alone. */
const FAILED_PAUSE_MS = 5_000
/** A kind whose container ends sooner after it was parked is one that cannot be parked. */
const LASTING_MS = 5_000
/** A kind that was wanted in this time keeps its containers, whatever others need. */
const FRESH_MS = 30_000
/** Without use for this long, a kind keeps one container less. */
const IDLE_MS = 5 * 60_000
const SWEEP_MS = 15_000

/**
 * Containers that were started ahead of need: a run that finds one of its kind begins in the time of a
 * hand-off. What is parked follows what was asked for, never gets in the way of runs that start without
 * it, and is bounded in number and memory.
 */
export class PoolManager {
  readonly #options: PoolManagerOptions
  /** By the key of their plan. */
  readonly #demands = new Map<string, Demand>()
  /** Ids of what is being made. */
  readonly #making = new Map<string, ParkingPlan>()
  readonly #sweeper: NodeJS.Timeout
  #refilling: Promise<void> | undefined
  #disturbedAt = 0
  readonly #ending = new AbortController()
  #hits = 0
  #misses = 0

  constructor(options: PoolManagerOptions) {
    this.#options = options
    options.coldStarts.onEnd(() => this.#disturbed())
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS).unref()
  }

  /** False where containers are never parked. */
  get isOn(): boolean {
    return this.#options.max > 0
  }

  get #ended(): boolean {
    return this.#ending.signal.aborted
  }

  get report(): { parked: number; wanted: number; max: number; memory_mb: number; hits: number; misses: number } {
    const demands = [...this.#demands.values()]
    const parked = demands.flatMap((demand) => demand.parked)
    return {
      parked: parked.length,
      wanted: demands.reduce((sum, { target }) => sum + target, 0),
      max: this.#options.max,
      memory_mb: parked.reduce((sum, { plan }) => sum + memoryOf(plan), 0) / 1024 ** 2,
      hits: this.#hits,
      misses: this.#misses,
    }
  }

  /** True for a container of the pool that no run has taken, by the id in its labels. */
  claims(id: string): boolean {
    if (this.#making.has(id)) return true
    return [...this.#demands.values()].some(({ parked }) => parked.some((container) => container.id === id))
  }

  /** One that waits; undefined where none of its kind does. Call `ended` when the run is over, in both cases. */
  take(plan: ParkingPlan): ParkedContainer | undefined {
    const demand = this.#demandFor(plan)
    demand.running += 1
    demand.wantedAt = performance.now()
    let container = demand.parked.shift()
    while (container !== undefined && !container.isWaiting) {
      this.#discard(container)
      container = demand.parked.shift()
    }
    container?.take()
    if (container === undefined) {
      this.#misses += 1
      demand.target = Math.min(demand.target + 1, this.#options.max)
    } else this.#hits += 1
    this.#disturbed()
    return container
  }

  /** A run that asked for one is over. */
  ended({ key }: ParkingPlan): void {
    const demand = this.#demands.get(key)
    if (demand !== undefined) demand.running -= 1
    this.#disturbed()
  }

  /** Removes all that is parked, and parks no more. */
  async end(): Promise<void> {
    this.#ending.abort()
    clearInterval(this.#sweeper)
    await this.#refilling
    for (const { parked } of this.#demands.values()) for (const container of parked.splice(0)) this.#discard(container)
    this.#demands.clear()
  }

  #demandFor(plan: ParkingPlan): Demand {
    const demand = this.#demands.get(plan.key) ?? newDemand(plan)
    this.#demands.set(plan.key, demand)
    return demand
  }

  /** Something began or ended that parking must not get in the way of: there may be room for more. */
  #disturbed(): void {
    this.#disturbedAt = performance.now()
    if (!this.isOn || this.#ended) return
    this.#refilling ??= this.#refill().finally(() => {
      this.#refilling = undefined
      if (this.#nextWanted() !== undefined && this.#mayPark()) this.#disturbed()
    })
  }

  /** Parks what is missing, one after the other. */
  async #refill(): Promise<void> {
    for (;;) {
      if (this.#nextWanted() === undefined) return
      await this.#quiet()
      const demand = this.#nextWanted()
      if (demand === undefined || !this.#mayPark()) return
      for (const stale of this.#inTheWayOf(demand) ?? []) this.#giveUp(stale)
      try {
        await this.#park(demand)
      } catch (error) {
        const { log } = this.#options
        log.warn({ event: 'pool.failed', error: messageOf(error) }, 'a container could not be parked')
        if (isEngineFault(error, 'unavailable', 'deadline')) await this.#pause(FAILED_PAUSE_MS)
        else postpone(demand)
      }
    }
  }

  async #park(demand: Demand): Promise<void> {
    const id = newId('pool')
    this.#making.set(id, demand.plan)
    try {
      const container = await ParkedContainer.park(this.#options, demand.plan, id)
      // Its demand may have been forgotten meanwhile.
      if (this.#ended || this.#demands.get(demand.plan.key) !== demand) return this.#discard(container)
      demand.parked.push(container)
      const parkedAt = performance.now()
      container.watch(this.#options, () => this.#lost(demand, container, parkedAt))
    } finally {
      this.#making.delete(id)
    }
  }

  /** A parked container ended before it was taken. */
  #lost(demand: Demand, container: ParkedContainer, parkedAt: number): void {
    const at = demand.parked.indexOf(container)
    if (at === -1) return
    demand.parked.splice(at, 1)
    this.#discard(container)
    this.#options.log.warn(
      { event: 'pool.lost', container_id: container.containerId },
      'a parked container ended before it was taken',
    )
    if (performance.now() - parkedAt < LASTING_MS) postpone(demand)
    else this.#disturbed()
  }

  /** Resolves when no run is under way and none was a moment ago, or when there is no waiting for that. */
  async #quiet(): Promise<void> {
    const until = performance.now() + MOST_QUIET_MS
    for (let rest = QUIET_MS; rest > 0 && !this.#ended; ) {
      await this.#pause(rest)
      const now = performance.now()
      const isRunning = [...this.#demands.values()].some(({ running }) => running > 0)
      rest = Math.min(isRunning ? QUIET_MS : this.#disturbedAt + QUIET_MS - now, until - now)
    }
  }

  /** Ends sooner where the pool does. */
  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { ref: false, signal: this.#ending.signal }).catch(() => {})
  }

  #mayPark(): boolean {
    const { coldStarts, isBusy, mayPark } = this.#options
    return !this.#ended && !coldStarts.any && !isBusy() && mayPark()
  }

  /** Whose container is missing most recently, where there is or can be made room for it. */
  #nextWanted(): Demand | undefined {
    const now = performance.now()
    return [...this.#demands.values()]
      .filter((demand) => demand.retryAt <= now && demand.parked.length + this.#makingOf(demand) < demand.target)
      .sort((a, b) => b.wantedAt - a.wantedAt)
      .find((demand) => this.#inTheWayOf(demand) !== undefined)
  }

  #makingOf({ plan }: Demand): number {
    return [...this.#making.values()].filter(({ key }) => key === plan.key).length
  }

  /**
   * What has to be given up for one more container of a kind: of kinds that nobody wanted for a while, what
   * was wanted longest ago. Undefined where that is not enough.
   */
  #inTheWayOf(demand: Demand): readonly Demand[] | undefined {
    const now = performance.now()
    const demands = [...this.#demands.values()]
    const present = [...this.#making.values(), ...demands.flatMap(({ plan, parked }) => parked.map(() => plan))]
    const stale = demands
      .filter((other) => now - other.wantedAt > FRESH_MS && other.wantedAt < demand.wantedAt)
      .sort((a, b) => a.wantedAt - b.wantedAt)
      .flatMap((other) => other.parked.map(() => other))
    const { max, memoryBytes } = this.#options
    let count = present.length + 1
    let memory = present.reduce((sum, plan) => sum + memoryOf(plan), memoryOf(demand.plan))
    const inTheWay: Demand[] = []
    while (count > max || memory > memoryBytes) {
      const next = stale[inTheWay.length]
      if (next === undefined) return undefined
      inTheWay.push(next)
      count -= 1
      memory -= memoryOf(next.plan)
    }
    return inTheWay
  }

  /** Parks one less of a kind from now on. */
  #giveUp(demand: Demand): void {
    demand.target = Math.max(0, demand.target - 1)
    const container = demand.parked.shift()
    if (container !== undefined) this.#discard(container)
  }

  /** Gives back what was not used for long, forgets what is not asked for any more, and sees what is missing. */
  #sweep(): void {
    for (const [key, demand] of this.#demands) {
      const { parked, running, wantedAt } = demand
      if (running > 0 || performance.now() - Math.max(wantedAt, demand.shrunkAt) < IDLE_MS) continue
      demand.target = Math.max(0, demand.target - 1)
      while (parked.length > demand.target) this.#discard(parked.shift() as ParkedContainer)
      demand.shrunkAt = performance.now()
      if (demand.target === 0) this.#demands.delete(key)
    }
    // What was not to be parked when it was last looked at may be by now.
    if (this.#nextWanted() !== undefined && this.#mayPark()) this.#disturbed()
  }

  #discard(container: ParkedContainer): void {
    container.take()
    container.close()
    this.#options.docker.removeLater(container.containerId, container.volumes)
  }
}

function newDemand(plan: ParkingPlan): Demand {
  return { plan, parked: [], target: 0, running: 0, wantedAt: 0, shrunkAt: 0, retryAt: 0 }
}

/** A kind that cannot be parked (its image is gone, say) is not tried again until it is wanted again, a while later. */
function postpone(demand: Demand): void {
  demand.target = 0
  demand.retryAt = performance.now() + FAILED_PAUSE_MS
}

function memoryOf({ container }: ParkingPlan): number {
  return container.resources.memoryBytes
}
