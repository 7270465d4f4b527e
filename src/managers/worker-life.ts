/** The changes to one worker, one at a time: start, stop, restart, refresh, pause, resume and removal. */
import { timestamp } from '../domain/common.ts'
import type { RefreshWorker, Worker } from '../domain/worker.ts'
import type { StartWorker } from '../domain/worker-spec.ts'
import type { ContainerState } from '../engine/engine.ts'
import { AppError, messageOf } from '../errors.ts'
import { failpoint } from '../failpoints.ts'
import { CommandGate } from './command-gate.ts'
import { forgetCommands } from './exec-records.ts'
import type { LogReader } from './log-reader.ts'
import { Turns } from './turns.ts'
import { newNonce, type WorkerDecision } from './worker-blueprint.ts'
import { WorkerContainer, type WorkerContainerDeps } from './worker-container.ts'
import { BREACH, startFailure, startProblem, WorkerEnded, WorkerInterrupted } from './worker-problem.ts'
import { DELETED, isRebuilt, type WorkerEntry, WorkerRecord } from './worker-record.ts'
import { type RunnerDeps, WorkerRunner } from './worker-runner.ts'
import { sharedRepository } from './worker-workspace.ts'

export interface WorkerLifeDeps extends WorkerContainerDeps, RunnerDeps {
  logs: LogReader
}

const TAIL_LINES = 50
const COMMANDS_END_MS = 10_000

export class WorkerLife {
  /** What of the service's commands runs inside. */
  readonly commands = new CommandGate()
  readonly #deps: WorkerLifeDeps
  readonly #record: WorkerRecord
  readonly #container: WorkerContainer
  readonly #runner: WorkerRunner
  #removing = false
  /** One change at a time. */
  readonly #turns = new Turns()

  /** `decide` applies policy, each time that a container is made or its secrets are read. */
  constructor(deps: WorkerLifeDeps, entry: WorkerEntry, request: StartWorker, decide: () => WorkerDecision) {
    this.#deps = deps
    this.#record = new WorkerRecord(deps.store, entry, request)
    this.#container = new WorkerContainer(deps, this.#record, decide)
    this.#runner = new WorkerRunner(deps, this.#record, {
      blueprint: () => this.#container.blueprint(),
      repository: () => sharedRepository(request.workspace, deps),
      onBreach: () => void this.#endForBreach(),
    })
  }

  get entry(): WorkerEntry {
    return this.#record.entry
  }

  /** It is on its way out, or gone. */
  get isRemoved(): boolean {
    return this.#removing
  }

  get request(): StartWorker {
    return this.#record.request
  }

  /** Makes its container and waits until it is ready; whatever fails is undone, and told as a problem. */
  start(): Promise<Worker> {
    return this.#change(async () => {
      const { volumes } = this.#deps
      const before = new Set(await volumes.workerVolumes(this.entry.name))
      try {
        await this.#container.create(this.#runner.signal)
        failpoint('worker.created')
        await this.#runner.bringUp()
        failpoint('worker.ready')
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
    return this.#change(async () => {
      if (this.entry.view.status === 'paused') await this.#thaw()
      if (this.entry.view.status === 'running') return this.entry.view
      this.#requireRequest()
      return this.#again()
    })
  }

  /** Stops it and keeps the container; a stopped one stays as it is. */
  stop(graceSeconds: number): Promise<Worker> {
    this.#runner.interrupt('stopped')
    return this.#change(async () => {
      // A start that failed has left nothing to stop.
      if (!this.entry.live) return this.entry.view
      const wasLive = this.#record.isLive
      await this.#runner.halt(graceSeconds)
      if (wasLive) {
        const state = await this.#container.inspect()
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
    return this.#change(async () => {
      this.#requireKept()
      this.#requireRequest()
      await this.#runner.halt(graceSeconds)
      return this.#again()
    })
  }

  /**
   * Puts a new container in the place of the old one, once no command runs in it, and keeps workspace
   * and volumes. Where the new one does not get ready, the old one is started again.
   */
  async refresh({ timeout_seconds, when_busy, wait_seconds }: RefreshWorker): Promise<Worker> {
    this.#requireRequest()
    const wait = when_busy === 'wait' ? wait_seconds * 1000 : 0
    return this.commands.closed(wait, () =>
      this.#change(() => {
        this.#requireKept()
        return this.#replace(timeout_seconds)
      }),
    )
  }

  pause(): Promise<Worker> {
    return this.#change(async () => {
      if (this.entry.view.status === 'paused') return this.entry.view
      this.#record.requireStatus('running')
      await this.#deps.engine.containers.pause(this.#record.containerId)
      await this.#record.update({ status: 'paused' })
      return this.entry.view
    })
  }

  resume(): Promise<Worker> {
    return this.#change(async () => {
      if (this.entry.view.status === 'running') return this.entry.view
      this.#record.requireStatus('paused')
      await this.#thaw()
      return this.entry.view
    })
  }

  /**
   * Removes container, volumes of its own and logs, and the worker from what callers see. From the call on it
   * begins nothing; what it has is removed once `after` has resolved.
   */
  async remove(
    graceSeconds: number,
    { after, ...options }: { keepVolumes?: boolean; after?: Promise<void> | undefined } = {},
  ): Promise<void> {
    // From now on nothing else begins, and what waits for its turn is refused.
    this.#removing = true
    this.#runner.interrupt('removed')
    const { store } = this.#deps
    try {
      await this.#turns.take(async () => {
        await after
        await this.#remove(graceSeconds, options)
      })
    } catch (error) {
      this.#removing = false
      throw error
    }
    // Commands end with the container; each records its end first.
    await this.commands.emptied(COMMANDS_END_MS)
    await forgetCommands(store, this.entry.id)
  }

  async #remove(graceSeconds: number, options: { keepVolumes?: boolean }): Promise<void> {
    if (this.entry.status === DELETED) return
    await this.#runner.halt(graceSeconds)
    await this.#container.remove()
    if (!options.keepVolumes) await this.#container.removeVolumes()
    this.#container.forget()
    this.entry.live = false
    this.entry.request = null
    await this.#record.update({ status: 'stopped', stopped_at: this.entry.view.stopped_at ?? timestamp() }, DELETED)
    await this.#deps.store.spools.remove(this.entry.id)
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
    this.#runner.renew()
    this.entry.view.restarts = 0
    const present = await this.#container.inspect()
    try {
      await this.#container.ensure(present, this.#runner.signal)
      await this.#runner.bringUp()
    } catch (error) {
      throw await this.#giveUp(error)
    }
    return this.entry.view
  }

  /** Whatever else was asked for meanwhile, it ends as failed and is not started by itself. */
  async #endForBreach(): Promise<void> {
    try {
      await this.#turns.take(async () => {
        if (this.#removing) return
        await this.#runner.halt(0)
        await this.#record.update({ status: 'failed', failure: BREACH, stopped_at: timestamp() })
        await this.#record.sealSpool()
      })
    } catch (error) {
      this.#deps.log.error(
        { event: 'worker.breach_not_ended', worker_id: this.entry.name, error: messageOf(error) },
        'a worker that reached for the host could not be ended',
      )
    }
  }

  /** A start of a container that is kept has failed: it stays stopped, with the reason. */
  async #giveUp(error: unknown): Promise<AppError> {
    if (this.#runner.isDetached) return draining()
    await this.#runner.halt(0)
    const problem = await this.#problem(error)
    await this.#record.update({ status: 'failed', failure: startFailure(problem, error), stopped_at: timestamp() })
    await this.#record.sealSpool()
    return problem
  }

  async #replace(graceSeconds: number): Promise<Worker> {
    const { docker } = this.#deps
    const old = this.#container.current
    const wasLive = this.#record.isLive
    if (this.entry.view.status === 'paused') await this.#thaw()
    this.#runner.renew()
    // The old one is the worker's container until the new one takes its place: a crash goes on with it.
    const made = await this.#container.make(this.#runner.signal)
    try {
      // What is found in this state after a crash is started again.
      if (wasLive) await this.#record.update({ status: 'starting' })
      await this.#runner.halt(graceSeconds)
      failpoint('worker.halted')
      await this.#container.take(made)
      failpoint('worker.replaced')
      this.#runner.renew()
      await this.#runner.bringUp()
    } catch (error) {
      if (this.#runner.isDetached) throw draining()
      // Ended first: only then is what it wrote complete.
      await this.#runner.halt(0)
      const problem = await this.#problem(error)
      await this.#container.putBack(old)
      docker.removeLater(made.id)
      this.#deps.log.warn(
        { event: 'worker.refresh_failed', worker_id: this.entry.name, error: problem.message },
        'a worker could not be refreshed and keeps its container',
      )
      this.#runner.renew()
      if (wasLive && old.container_id !== null)
        await this.#runner.bringUp().catch((failure: unknown) => this.#giveUp(failure))
      else await this.#record.update({ status: 'stopped' })
      throw problem
    }
    failpoint('worker.refreshed')
    if (old.container_id !== null) docker.removeLater(old.container_id)
    await this.#record.update({
      status: this.entry.view.status,
      restarts: 0,
      refreshes: this.entry.view.refreshes + 1,
      refreshed_at: timestamp(),
    })
    this.#deps.log.info({ event: 'worker.refreshed', worker_id: this.entry.name }, 'worker refreshed')
    return this.entry.view
  }

  async #thaw(): Promise<void> {
    await this.#deps.engine.containers.resume(this.#record.containerId)
    await this.#record.update({ status: 'running' })
  }

  /** A start that failed leaves nothing that was not there before, or its stopped container where that was asked for. */
  async #undo(error: unknown, volumesBefore: ReadonlySet<string>): Promise<AppError> {
    if (this.#runner.isDetached) return draining()
    const { log } = this.#deps
    const ended = error instanceof WorkerEnded ? error.state : undefined
    // Killed first: only then is what it wrote complete.
    await this.#runner.abandon()
    const problem = await this.#problem(error)
    const keep =
      this.request.keep_on_failure && this.entry.containerId !== null && !(error instanceof WorkerInterrupted)
    if (!keep) {
      try {
        await this.#container.remove()
        await this.#container.removeVolumes(volumesBefore)
      } catch (failure) {
        log.error(
          { event: 'worker.undo_failed', worker_id: this.entry.name, error: messageOf(failure) },
          'what a worker that failed to start left could not be removed',
        )
      }
      this.#container.forget()
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

  /** Refuses what comes before the start, and what waited behind one that failed: nobody holds on to the worker then. */
  #requireKept(): void {
    if (this.entry.live && this.entry.view.status !== 'preparing') return
    throw new AppError('conflict', `Worker "${this.entry.name}" has no container`, {
      hint: `Start it with POST /containers/worker/${this.entry.name}/ensure.`,
    })
  }

  /** Refuses what takes a worker that was rebuilt: its variables, mounts and credentials are lost. */
  #requireRequest(): void {
    if (!isRebuilt(this.entry)) return
    const { name } = this.entry
    throw new AppError('conflict', `What worker "${name}" was started with was lost with the store`, {
      hint: 'Stop it and start it anew with POST /containers/worker/start: its volumes are kept.',
    })
  }

  /** A change that a removal rules out: refused at once, and again when its turn has come. */
  #change<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns.take(async () => {
      if (!this.#removing) return work()
      throw new AppError('conflict', `Worker "${this.entry.name}" is removed`, { hint: 'Start it anew.' })
    })
  }
}

/** What a service that stops leaves as it is goes on with its next start. */
function draining(): AppError {
  return new AppError('draining', 'The service is stopping', { retryAfterSeconds: 5 })
}
