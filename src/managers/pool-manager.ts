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
}

/** Nothing is parked while a run is under way that asked for a container, nor for so long after it; but at the latest after so long. */
const QUIET_MS = 10
const MOST_QUIET_MS = 1_000
/** Who parks again after a failure waits. */
const FAILED_PAUSE_MS = 5_000
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
    const demand = this.#demands.get(plan.key) ?? { plan, parked: [], target: 0, running: 0, wantedAt: 0, shrunkAt: 0 }
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
      try {
        await this.#park(demand)
      } catch (error) {
        const { log } = this.#options
        log.warn({ event: 'pool.failed', error: messageOf(error) }, 'a container could not be parked')
        // A kind that cannot be parked (its image is gone, say) is not tried again until it is wanted again.
        if (!isEngineFault(error, 'unavailable', 'deadline')) demand.target = 0
        await this.#pause(FAILED_PAUSE_MS)
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
      container.watch(this.#options, () => {
        const at = demand.parked.indexOf(container)
        if (at === -1) return
        demand.parked.splice(at, 1)
        this.#options.log.warn(
          { event: 'pool.lost', container_id: container.containerId },
          'a parked container ended before it was taken',
        )
        this.#discard(container)
      })
    } finally {
      this.#making.delete(id)
    }
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
    const wanting = [...this.#demands.values()]
      .filter((demand) => demand.parked.length + this.#makingOf(demand) < demand.target)
      .sort((a, b) => b.wantedAt - a.wantedAt)
    return wanting.find((demand) => this.#hasRoom(demand.plan) || this.#makeRoom(demand))
  }

  #makingOf({ plan }: Demand): number {
    return [...this.#making.values()].filter(({ key }) => key === plan.key).length
  }

  #hasRoom(plan: ParkingPlan): boolean {
    const { max, memoryBytes } = this.#options
    const present = [
      ...this.#making.values(),
      ...[...this.#demands.values()].flatMap(({ parked }) => parked.map((one) => one.plan)),
    ]
    const memory = present.reduce((sum, one) => sum + memoryOf(one), 0)
    return present.length < max && memory + memoryOf(plan) <= memoryBytes
  }

  /** Gives up containers of kinds that nobody wanted for a while, longest first; false where that is not enough. */
  #makeRoom({ plan }: Demand): boolean {
    const stale = [...this.#demands.values()]
      .filter(({ wantedAt, parked }) => parked.length > 0 && performance.now() - wantedAt > FRESH_MS)
      .sort((a, b) => a.wantedAt - b.wantedAt)
    for (const demand of stale) {
      for (const container of demand.parked.splice(0)) {
        demand.target = Math.max(0, demand.target - 1)
        this.#discard(container)
        if (this.#hasRoom(plan)) return true
      }
    }
    return false
  }

  /** Gives back what was not used for long, and forgets what is not asked for any more. */
  #sweep(): void {
    for (const [key, demand] of this.#demands) {
      const { parked, running, wantedAt } = demand
      if (running > 0 || performance.now() - Math.max(wantedAt, demand.shrunkAt) < IDLE_MS) continue
      demand.target = Math.max(0, demand.target - 1)
      while (parked.length > demand.target) this.#discard(parked.shift() as ParkedContainer)
      demand.shrunkAt = performance.now()
      if (demand.target === 0) this.#demands.delete(key)
    }
  }

  #discard(container: ParkedContainer): void {
    container.take()
    container.attachment.close()
    this.#options.docker.removeLater(container.containerId, container.volumes)
  }
}

function memoryOf({ container }: ParkingPlan): number {
  return container.resources.memoryBytes
}
