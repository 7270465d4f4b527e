/** One worker from its start to its removal: launched, watched, restarted when it dies, refreshed, stopped. */
import { timestamp } from '../domain/common.ts'
import type { RefreshWorker, StartWorker, Worker } from '../domain/worker.ts'
import type { ContainerState } from '../engine/engine.ts'
import { AppError, messageOf } from '../errors.ts'
import { CommandGate } from './command-gate.ts'
import { forgetCommands } from './exec-records.ts'
import type { LogReader } from './log-reader.ts'
import { type BlueprintDeps, newNonce, WorkerBlueprint, type WorkerDecision } from './worker-blueprint.ts'
import { startFailure, startProblem, WorkerEnded, WorkerInterrupted } from './worker-problem.ts'
import { DELETED, type WorkerEntry, WorkerRecord } from './worker-record.ts'
import { type RunnerDeps, WorkerRunner } from './worker-runner.ts'

export interface WorkerLifeDeps extends BlueprintDeps, RunnerDeps {
  logs: LogReader
}

const TAIL_LINES = 50
const COMMANDS_END_MS = 10_000

export class WorkerLife {
  /** What of the service's commands runs inside. */
  readonly commands = new CommandGate()
  readonly #deps: WorkerLifeDeps
  readonly #record: WorkerRecord
  readonly #decide: () => WorkerDecision
  readonly #runner: WorkerRunner
  #turn: Promise<unknown> = Promise.resolve()

  /** `decide` applies policy, each time that a container is made or its secrets are read. */
  constructor(deps: WorkerLifeDeps, entry: WorkerEntry, request: StartWorker, decide: () => WorkerDecision) {
    this.#deps = deps
    this.#record = new WorkerRecord(deps.store, entry, request)
    this.#decide = decide
    this.#runner = new WorkerRunner(deps, this.#record, () => this.#blueprint())
  }

  get entry(): WorkerEntry {
    return this.#record.entry
  }

  get request(): StartWorker {
    return this.#record.request
  }

  /** Makes its container and waits until it is ready; whatever fails is undone, and told as a problem. */
  start(): Promise<Worker> {
    return this.#exclusively(async () => {
      const { volumes } = this.#deps
      const before = new Set(await volumes.workerVolumes(this.entry.name))
      try {
        await this.#create()
        await this.#runner.bringUp()
      } catch (error) {
        throw await this.#undo(error, before)
      }
      return this.entry.view
    })
  }

  /** Takes over a container that an earlier process started; `state` is what the engine says of it. */
  async adopt(state: ContainerState): Promise<void> {
    // A new mark: a container that was being made in its place is nobody's.
    this.entry.nonce = newNonce()
    await this.#runner.adopt(state)
  }

  /** Starts one that is not running again, with its own container where that is still there. */
  resumeOrStart(): Promise<Worker> {
    return this.#exclusively(async () => {
      if (this.entry.view.status === 'paused') await this.#thaw()
      if (this.entry.view.status === 'running') return this.entry.view
      return this.#again()
    })
  }

  /** Stops it and keeps the container; a stopped one stays as it is. */
  stop(graceSeconds: number): Promise<Worker> {
    this.#runner.interrupt('stopped')
    return this.#exclusively(async () => {
      const wasLive = this.#record.isLive
      await this.#runner.halt(graceSeconds)
      if (wasLive) {
        const { containerId } = this.entry
        const state = containerId === null ? undefined : await this.#deps.engine.containers.inspect(containerId)
        await this.#record.update({
          status: 'stopped',
          stopped_at: timestamp(state?.finishedAt),
          ...this.#record.exitOf(state),
        })
      }
      await this.#record.sealSpool()
      return this.entry.view
    })
  }

  /** Stops it where it runs, and starts the same container again. */
  restart(graceSeconds: number): Promise<Worker> {
    return this.#exclusively(async () => {
      await this.#runner.halt(graceSeconds)
      return this.#again()
    })
  }

  /**
   * Puts a new container in the place of the old one, once no command runs in it, and keeps workspace
   * and volumes. Where the new one does not get ready, the old one is started again.
   */
  refresh({ timeout_seconds, when_busy, wait_seconds }: RefreshWorker): Promise<Worker> {
    const wait = when_busy === 'wait' ? wait_seconds * 1000 : 0
    return this.commands.closed(wait, () => this.#exclusively(() => this.#replace(timeout_seconds)))
  }

  pause(): Promise<Worker> {
    return this.#exclusively(async () => {
      if (this.entry.view.status === 'paused') return this.entry.view
      this.#record.requireStatus('running')
      await this.#deps.engine.containers.pause(this.#record.containerId)
      await this.#record.update({ status: 'paused' })
      return this.entry.view
    })
  }

  resume(): Promise<Worker> {
    return this.#exclusively(async () => {
      if (this.entry.view.status === 'running') return this.entry.view
      this.#record.requireStatus('paused')
      await this.#thaw()
      return this.entry.view
    })
  }

  /** Removes container, volumes of its own and logs, and the worker from what callers see. */
  remove(graceSeconds: number, options: { keepVolumes?: boolean } = {}): Promise<void> {
    this.#runner.interrupt('removed')
    return this.#exclusively(async () => {
      if (this.entry.status === DELETED) return
      await this.#runner.halt(graceSeconds)
      const { docker, engine, store, volumes } = this.#deps
      if (this.entry.containerId !== null) await docker.remove(this.entry.containerId)
      if (!options.keepVolumes) {
        for (const name of await volumes.workerVolumes(this.entry.name)) await engine.volumes.remove(name)
      }
      this.entry.containerId = null
      this.entry.live = false
      this.entry.request = null
      this.entry.view.container_id = null
      await this.#record.update({ status: 'stopped', stopped_at: this.entry.view.stopped_at ?? timestamp() }, DELETED)
      await store.spools.remove(this.entry.id)
      // Commands end with the container; each records its end first.
      await this.commands.closed(COMMANDS_END_MS, () => forgetCommands(store, this.entry.id))
    })
  }

  /** Leaves the worker running for the next start of the service. */
  detach(): void {
    this.#runner.detach()
  }

  /** True where a container is this worker's, or is being made to be. */
  claims(containerId: string, nonce: string): boolean {
    return this.entry.containerId === containerId || this.entry.nonce === nonce
  }

  async #again(): Promise<Worker> {
    const { containers } = this.#deps.engine
    const { containerId } = this.entry
    this.#runner.renew()
    this.entry.view.restarts = 0
    const state = containerId === null ? undefined : await containers.inspect(containerId)
    try {
      // Without its container, or the network of it, a new one takes its place.
      if (state === undefined || !(await this.#networkIsThere())) {
        if (state !== undefined) await this.#deps.docker.remove(state.id)
        await this.#create()
      }
      await this.#runner.bringUp()
    } catch (error) {
      throw await this.#giveUp(error)
    }
    return this.entry.view
  }

  /** A start of a container that is kept has failed: it stays stopped, with the reason. */
  async #giveUp(error: unknown): Promise<AppError> {
    const problem = await this.#problem(error)
    await this.#runner.halt(0)
    await this.#record.update({ status: 'failed', failure: startFailure(problem, error), stopped_at: timestamp() })
    await this.#record.sealSpool()
    return problem
  }

  async #networkIsThere(): Promise<boolean> {
    const { id } = this.entry.view.network
    return id === null || this.#deps.networks.exists(id)
  }

  async #replace(graceSeconds: number): Promise<Worker> {
    const { docker } = this.#deps
    const old = this.entry.containerId
    const { container_name, image_id, user, home, network } = this.entry.view
    const wasLive = this.#record.isLive
    this.#runner.renew()
    await this.#create()
    const made = this.#record.containerId
    try {
      this.entry.containerId = old
      await this.#runner.halt(graceSeconds)
      this.entry.containerId = made
      this.entry.view.container_id = made
      this.#runner.renew()
      await this.#runner.bringUp()
    } catch (error) {
      const problem = await this.#problem(error)
      await this.#runner.halt(0)
      await docker.remove(made)
      this.entry.containerId = old
      Object.assign(this.entry.view, { container_id: old, container_name, image_id, user, home, network })
      this.#deps.log.warn(
        { event: 'worker.refresh_failed', worker_id: this.entry.name, error: problem.message },
        'a worker could not be refreshed and keeps its container',
      )
      this.#runner.renew()
      if (wasLive && old !== null) await this.#runner.bringUp().catch((failure: unknown) => this.#giveUp(failure))
      else await this.#record.update({ status: 'stopped' })
      throw problem
    }
    if (old !== null) await docker.remove(old)
    await this.#record.update({
      status: this.entry.view.status,
      restarts: 0,
      refreshes: this.entry.view.refreshes + 1,
      refreshed_at: timestamp(),
    })
    this.#deps.log.info({ event: 'worker.refreshed', worker_id: this.entry.name }, 'worker refreshed')
    return this.entry.view
  }

  /** Makes the container; its mark is in the store before it is on the engine. */
  async #create(): Promise<void> {
    this.entry.nonce = newNonce()
    await this.#record.save()
    const identity = { recordId: this.entry.id, nonce: this.entry.nonce }
    const made = await this.#blueprint().create(identity, this.#runner.signal)
    this.entry.containerId = made.id
    Object.assign(this.entry.view, {
      container_id: made.id,
      container_name: made.name,
      image: made.image.reference,
      image_id: made.image.id,
      user: made.user,
      home: made.home,
      network: made.network,
    })
    await this.#record.save()
  }

  #blueprint(): WorkerBlueprint {
    return new WorkerBlueprint(this.#deps, this.request, this.#decide())
  }

  async #thaw(): Promise<void> {
    await this.#deps.engine.containers.resume(this.#record.containerId)
    await this.#record.update({ status: 'running' })
  }

  /** A start that failed leaves nothing that was not there before, or its stopped container where that was asked for. */
  async #undo(error: unknown, volumesBefore: ReadonlySet<string>): Promise<AppError> {
    if (this.#runner.isDetached) return new AppError('draining', 'The service is stopping', { retryAfterSeconds: 5 })
    const { docker, engine, log, volumes } = this.#deps
    const { containerId } = this.entry
    const ended = error instanceof WorkerEnded ? error.state : undefined
    // Killed first: only then is what it wrote complete.
    await this.#runner.abandon()
    const problem = await this.#problem(error)
    const keep = this.request.keep_on_failure && containerId !== null && !(error instanceof WorkerInterrupted)
    if (!keep) {
      try {
        if (containerId !== null) await docker.remove(containerId)
        for (const name of await volumes.workerVolumes(this.entry.name))
          if (!volumesBefore.has(name)) await engine.volumes.remove(name)
      } catch (failure) {
        log.error(
          { event: 'worker.undo_failed', worker_id: this.entry.name, error: messageOf(failure) },
          'what a worker that failed to start left could not be removed',
        )
      }
      this.entry.containerId = null
      this.entry.view.container_id = null
      this.entry.live = false
    }
    const failure = startFailure(problem, error)
    await this.#record.update({ status: 'failed', failure, stopped_at: timestamp(), ...this.#record.exitOf(ended) })
    await this.#record.sealSpool()
    log.warn(
      { event: 'worker.start_failed', worker_id: this.entry.name, failure: failure.code, detail: failure.message },
      'worker failed to start',
    )
    return problem
  }

  async #problem(error: unknown): Promise<AppError> {
    await this.#runner.drained()
    const tail = await this.#deps.logs.lastLines(this.entry.id, TAIL_LINES)
    return startProblem(error, this.entry.name, tail, this.entry.view.restarts)
  }

  /** One change at a time, in the order they came. */
  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work)
    this.#turn = result.catch(() => {})
    return result
  }
}
