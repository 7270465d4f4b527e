/** The changes to one relic, one at a time: start, stop, restart and removal. */
import { timestamp } from '../domain/common.ts'
import type { Relic, RelicHealth, StartRelic } from '../domain/relic.ts'
import type { ContainerState } from '../engine/engine.ts'
import { AppError, messageOf } from '../errors.ts'
import { failpoint } from '../failpoints.ts'
import type { DoorTarget } from './door.ts'
import type { HealthPoller } from './health-poller.ts'
import type { LogReader } from './log-reader.ts'
import { createRelic, type RelicBlueprintDeps, type RelicDecision } from './relic-blueprint.ts'
import { RelicProber } from './relic-prober.ts'
import { startFailure, startProblem } from './relic-problem.ts'
import { DELETED, type RelicEntry, RelicRecord } from './relic-record.ts'
import { RelicRunner, type RelicRunnerDeps } from './relic-runner.ts'
import { Turns } from './turns.ts'

export interface RelicLifeDeps extends RelicBlueprintDeps, RelicRunnerDeps {
  poller: HealthPoller
  logs: LogReader
}

const TAIL_LINES = 50

export class RelicLife {
  readonly #deps: RelicLifeDeps
  readonly #record: RelicRecord
  readonly #prober: RelicProber
  readonly #runner: RelicRunner
  /** Absent for a relic that is adopted: its container is made. */
  readonly #decision: RelicDecision | undefined
  /** One of start, stop, restart and remove at a time. */
  readonly #turns = new Turns()

  constructor(deps: RelicLifeDeps, entry: RelicEntry, request: StartRelic, decision?: RelicDecision) {
    this.#deps = deps
    this.#record = new RelicRecord(deps.store, entry, request)
    this.#prober = new RelicProber(deps.poller, this.#record)
    this.#runner = new RelicRunner(deps, this.#record, this.#prober)
    this.#decision = decision
  }

  get entry(): RelicEntry {
    return this.#record.entry
  }

  /** Where it takes connections; undefined before its container has an address. */
  get door(): DoorTarget | undefined {
    return this.#prober.door
  }

  /** Starts it and waits until it is healthy; whatever fails is undone, and told as a problem. */
  start(): Promise<Relic> {
    return this.#turns.take(() => this.#start())
  }

  async #start(): Promise<Relic> {
    const { timeout_seconds } = this.#record.request.resource_limits
    const deadline = AbortSignal.timeout(Math.ceil(timeout_seconds * 1000))
    const signal = AbortSignal.any([deadline, this.#runner.signal])
    try {
      await this.#create(signal)
      failpoint('relic.created')
      await this.#runner.bringUp(signal)
      failpoint('relic.healthy')
    } catch (error) {
      if (this.#runner.isDetached) throw new AppError('draining', 'The service is stopping', { retryAfterSeconds: 5 })
      failpoint('relic.undo')
      throw await this.#undo(error, deadline.aborted)
    }
    return this.entry.view
  }

  /** Takes over a container that an earlier process started; `state` is what the engine says of it. */
  adopt(state: ContainerState): Promise<void> {
    return this.#runner.adopt(state)
  }

  /** Stops it and keeps the container for inspection; a stopped one stays as it is. */
  stop(graceSeconds: number): Promise<Relic> {
    this.#runner.interrupt('stopped')
    return this.#turns.take(async () => {
      await this.#runner.halt(graceSeconds)
      if (this.entry.view.status !== 'failed')
        await this.#record.update({ status: 'stopped', stopped_at: timestamp(), internal_url: null })
      await this.#record.sealSpool()
      return this.entry.view
    })
  }

  /** Stops it where it runs, starts the same container again and waits until it is healthy. */
  restart(graceSeconds: number): Promise<Relic> {
    return this.#turns.take(async () => {
      if (this.entry.containerId === null) {
        throw new AppError('conflict', `Relic "${this.entry.id}" has no container that could be started again`, {
          hint: 'Start a new relic.',
        })
      }
      await this.#runner.halt(graceSeconds)
      await this.#record.sealSpool()
      await this.#record.openSpool()
      this.#runner.renew()
      await this.#record.update({
        status: 'starting',
        failure: null,
        stopped_at: null,
        restarts: this.entry.view.restarts + 1,
      })
      try {
        await this.#runner.bringUp(this.#runner.signal)
      } catch (error) {
        const problem = await this.#problem(error, false)
        await this.#runner.halt(0)
        await this.#record.update({ status: 'failed', failure: startFailure(problem, error), internal_url: null })
        throw problem
      }
      return this.entry.view
    })
  }

  /** Removes the container, and the relic from what callers see. */
  remove(graceSeconds: number): Promise<void> {
    this.#runner.interrupt('removed')
    return this.#turns.take(async () => {
      if (this.entry.status === DELETED) return
      await this.#runner.halt(graceSeconds)
      if (this.entry.containerId !== null) await this.#deps.docker.remove(this.entry.containerId)
      this.#deps.volumes.release(this.entry.id)
      this.entry.containerId = null
      this.entry.live = false
      this.entry.request = null
      this.entry.view.container_id = null
      await this.#record.update({ status: 'stopped', stopped_at: this.entry.view.stopped_at ?? timestamp() }, DELETED)
      await this.#deps.store.spools.remove(this.entry.id)
    })
  }

  /** Health as of at most a second ago, with the last probes. */
  health(): Promise<RelicHealth> {
    return this.#prober.health()
  }

  /** Leaves the relic running for the next start of the service. */
  detach(): void {
    this.#runner.detach()
  }

  async #beginLog(): Promise<void> {
    const { status } = this.entry.view
    const spool = await this.#record.openSpool()
    spool.state({ status, at: timestamp() })
  }

  async #create(signal: AbortSignal): Promise<void> {
    const decision = this.#decision
    if (decision === undefined) throw new Error('a relic without a policy decision cannot be created')
    const log = this.#beginLog()
    const [made] = await Promise.allSettled([createRelic(this.#deps, this.#record, decision, signal), log])
    if (made.status === 'rejected') throw made.reason
    const { id, image, network } = made.value
    this.entry.containerId = id
    await log
    await this.#record.update({
      status: 'starting',
      container_id: id,
      image: image.reference,
      image_id: image.id,
      network: { id: network.id, name: network.name },
    })
    signal.throwIfAborted()
  }

  /** A start that failed leaves no container: only the record of why. */
  async #undo(error: unknown, overdue: boolean): Promise<AppError> {
    const { containerId } = this.entry
    // Killed first: only then is what it wrote complete.
    await this.#runner.abandon()
    const problem = await this.#problem(error, overdue)
    if (containerId !== null) {
      await this.#deps.docker.remove(containerId).catch((failure: unknown) => {
        this.#deps.log.error(
          { event: 'relic.undo_failed', relic_id: this.entry.id, error: messageOf(failure) },
          'the container of a relic that failed to start could not be removed',
        )
      })
    }
    this.entry.containerId = null
    this.entry.live = false
    this.entry.request = null
    const failure = startFailure(problem, error)
    await this.#record.update({
      status: 'failed',
      failure,
      container_id: null,
      stopped_at: timestamp(),
      internal_url: null,
    })
    await this.#record.sealSpool()
    this.#deps.log.warn(
      {
        event: 'relic.start_failed',
        relic_id: this.entry.id,
        session_id: this.entry.sessionId,
        failure: failure.code,
        detail: failure.message,
      },
      'relic failed to start',
    )
    return problem
  }

  async #problem(error: unknown, overdue: boolean): Promise<AppError> {
    await this.#runner.drained()
    return startProblem({
      error,
      overdue,
      relicId: this.entry.id,
      request: this.#record.request,
      lastProbe: this.#prober.last,
      logsTail: await this.#deps.logs.lastLines(this.entry.id, TAIL_LINES),
    })
  }
}
