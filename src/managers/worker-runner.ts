/** The running container of a worker: launched, watched, restarted when it dies, halted. */
import { setTimeout as sleep } from 'node:timers/promises'
import { timestamp } from '../domain/common.ts'
import type { ContainerState, Engine } from '../engine/engine.ts'
import { isEngineFault, messageOf } from '../errors.ts'
import type { SpoolWriter } from '../store/spool-writer.ts'
import type { Store } from '../store/store.ts'
import { ContainerProcess } from './container-process.ts'
import type { DoorTarget } from './door.ts'
import type { Log } from './log.ts'
import { endedByEngine } from './outcome.ts'
import type { PortForwarder } from './port-forwarder.ts'
import { restartPause } from './restart-pause.ts'
import type { VolumeResolver } from './volume-resolver.ts'
import type { WorkerBlueprint } from './worker-blueprint.ts'
import { launch, untilReady } from './worker-launch.ts'
import { LOST, WorkerEnded, WorkerInterrupted, workerFailure } from './worker-problem.ts'
import type { WorkerRecord } from './worker-record.ts'
import { WorktreeGuard } from './worktree-guard.ts'

export interface RunnerDeps {
  engine: Engine
  store: Store
  forwarder: PortForwarder
  volumes: VolumeResolver
  log: Log
}

/** What a runner asks of the worker that it is of. */
export interface RunnerOwner {
  /** Applies policy each time that secrets are read. */
  blueprint: () => WorkerBlueprint
  /** What a worktree shares with its main repository; undefined where there is none. */
  repository: () => Promise<string | undefined>
  /** The worker reached for the host, and is killed. */
  onBreach: () => void
}

const ENGINE_RETRY_MS = 500
/** One that ran so long begins to count its restarts anew. */
const STABLE_MS = 10 * 60_000

export class WorkerRunner {
  readonly #deps: RunnerDeps
  readonly #record: WorkerRecord
  readonly #blueprint: () => WorkerBlueprint
  readonly #repository: () => Promise<string | undefined>
  readonly #onBreach: () => void
  /** Aborted when a caller stops or removes the worker while it starts. */
  #starting = new AbortController()
  readonly #detach = new AbortController()
  #wanted: 'running' | 'stopped' = 'running'
  #spool: SpoolWriter | undefined
  #process: ContainerProcess | undefined
  #watching: Promise<void> = Promise.resolve()
  #guard: WorktreeGuard | undefined

  constructor(deps: RunnerDeps, record: WorkerRecord, { blueprint, repository, onBreach }: RunnerOwner) {
    this.#deps = deps
    this.#record = record
    this.#blueprint = blueprint
    this.#repository = repository
    this.#onBreach = onBreach
  }

  /** Aborts with a caller's stop, and when the service lets go. */
  get signal(): AbortSignal {
    return AbortSignal.any([this.#starting.signal, this.#detach.signal])
  }

  get isDetached(): boolean {
    return this.#detach.signal.aborted
  }

  /** Cuts a start short: whoever waits for it is told why. */
  interrupt(how: 'stopped' | 'removed'): void {
    this.#starting.abort(new WorkerInterrupted(how))
  }

  /** Lets a start that comes after an interruption go its way. */
  renew(): void {
    this.#starting = new AbortController()
  }

  /** Leaves the worker running for the next start of the service. */
  detach(): void {
    this.#guard?.close()
    this.#detach.abort(new Error('The service is stopping'))
  }

  /** Takes over a container that an earlier process started; `state` is what the engine says of it. */
  async adopt(state: ContainerState): Promise<void> {
    const { engine, store, log } = this.#deps
    const { status } = this.#record.entry.view
    if (!this.#record.isLive) {
      this.#wanted = 'stopped'
      return
    }
    this.#spool = await this.#record.openSpool()
    if (status === 'starting' && (state.status === 'running' || state.status === 'paused')) {
      // It may still wait for its private files, which died with the earlier process.
      await engine.containers.kill(state.id)
    }
    // One that was being started when the earlier process ended is started again.
    if (status === 'starting') {
      this.#watching = this.bringUp().catch((error: unknown) => this.#notAdopted(error))
      return
    }
    const { id } = this.#record.entry
    this.#process = await ContainerProcess.adopt(this.#processOptions(state.id), store.spools, id)
    this.#watch()
    await this.#locate(state).catch((error: unknown) => {
      this.#record.entry.view.ports = {}
      log.error(
        { event: 'worker.ports_lost', worker_id: this.#record.entry.name, error: messageOf(error) },
        'the published ports of a worker could not be listened on again',
      )
    })
    await this.#guardRepository().catch((error: unknown) => {
      log.error(
        { event: 'worktree.not_guarded', worker_id: this.#record.entry.name, error: messageOf(error) },
        'the repository of a worker is not watched',
      )
    })
    if (state.status === 'running' || state.status === 'paused') await this.#record.update({ status: state.status })
  }

  async #notAdopted(error: unknown): Promise<void> {
    if (this.isDetached) return
    const { log, engine } = this.#deps
    const { containerId, name } = this.#record.entry
    log.error({ event: 'worker.not_started_again', worker_id: name, error: messageOf(error) }, 'a worker stays stopped')
    this.#wanted = 'stopped'
    if (containerId !== null) await engine.containers.kill(containerId).catch(() => false)
    const failure = { code: 'start_failed' as const, message: messageOf(error), hint: null }
    await this.#record.update({ status: 'failed', failure, stopped_at: timestamp() })
  }

  /** Resolves when all output of an ended process is in its log. */
  async drained(): Promise<void> {
    await this.#process?.drained()
  }

  /** From now on until it is halted or has ended. */
  async #guardRepository(): Promise<void> {
    this.#guard?.close()
    const repository = await this.#repository()
    if (repository === undefined) return
    this.#guard = new WorktreeGuard(repository, this.#deps.log, () => void this.#endForBreach())
  }

  /** A worker that reached for the host is killed at once; what becomes of it is its owner's to say. */
  async #endForBreach(): Promise<void> {
    const { engine, log } = this.#deps
    const { containerId, name } = this.#record.entry
    log.error({ event: 'worker.breach', worker_id: name }, 'a worker reached for git of the host and is ended')
    this.interrupt('stopped')
    // Its end is no reason to start it again.
    this.#wanted = 'stopped'
    if (containerId !== null) await engine.containers.kill(containerId).catch(() => false)
    this.#onBreach()
  }

  /** Kills what runs of a start that failed; its process is watched no more. */
  async abandon(): Promise<void> {
    const { containerId, id } = this.#record.entry
    this.#wanted = 'stopped'
    this.#guard?.close()
    await this.#deps.forwarder.close(id)
    if (containerId !== null) await this.#deps.engine.containers.kill(containerId).catch(() => false)
    await this.drained()
    this.#process = undefined
  }

  /** Starts the container and waits until it is ready, as often as its restart policy says; then watches it. */
  async bringUp(): Promise<void> {
    this.#wanted = 'running'
    this.#spool = await this.#record.openSpool()
    await this.#record.update({
      status: 'starting',
      failure: null,
      exit_code: null,
      exit_meaning: null,
      stopped_at: null,
    })
    for (;;) {
      try {
        await this.#launch()
        break
      } catch (error) {
        if (!(error instanceof WorkerEnded) || error.state === undefined) throw error
        await this.#process?.drained()
        if (error.phase === 'running' && this.#record.exitOf(error.state).exit_meaning?.action === 'complete')
          return this.#settle(error.state)
        if (await this.#pauseBeforeRestart(error.state)) continue
        this.#starting.signal.throwIfAborted()
        throw error
      }
    }
    this.#watch()
  }

  /** One try: resolves when the worker is ready. */
  async #launch(): Promise<void> {
    const { engine, log } = this.#deps
    const containerId = this.#record.containerId
    const { signal } = this
    const privateTar = await this.#blueprint().privateTar(this.#record.entry.view.home ?? '/')
    await this.#guardRepository()
    signal.throwIfAborted()
    const before = await engine.containers.inspect(containerId)
    await this.#deps.volumes.requireInPlace(before?.mounts ?? [])
    const began = performance.now()
    this.#process = await launch({ ...this.#processOptions(containerId), privateTar, former: this.#process })
    const state = await engine.containers.inspect(containerId)
    if (state === undefined) throw new WorkerEnded('running', undefined)
    // Between the look and the start a link may have been put there.
    await this.#deps.volumes.requireInPlace(state.mounts)
    await this.#locate(state)
    this.#record.entry.view.started_at = timestamp(state.startedAt)
    const startMs = performance.now() - began
    await untilReady({ engine, log, containerId }, this.#record.request.ready, this.#process, { signal, startMs })
    await this.#record.update({ status: 'running', ready_at: timestamp() })
    const { worker_id, session_id } = this.#record.entry.view
    log.info({ event: 'worker.ready', worker_id, session_id, container_id: containerId }, 'worker ready')
  }

  #processOptions(containerId: string) {
    if (this.#spool === undefined) throw new Error('a worker was started before its spool was open')
    const { engine, log } = this.#deps
    return { engine, containerId, spool: this.#spool, log, detach: this.#detach.signal }
  }

  /** A way to its ports from this host, where some were asked for. */
  async #locate(state: ContainerState): Promise<void> {
    const wanted = { ...this.#record.request.ports, ...this.#record.entry.view.ports }
    if (Object.keys(wanted).length === 0) return
    const { network } = this.#record.entry.view
    const endpoint = state.networks.find(({ networkId, networkName }) =>
      network.id === null ? networkName === network.name : networkId === network.id,
    )
    if (endpoint === undefined || endpoint.address === '') return
    const { networkId, address, gateway } = endpoint
    const namespace = state.networkNamespace
    const target: Omit<DoorTarget, 'port'> = { containerId: state.id, networkId, address, gateway, namespace }
    this.#record.entry.view.ports = await this.#deps.forwarder.open(this.#record.entry.id, wanted, target)
  }

  /** Follows the process of a worker, and does what its end asks for. */
  #watch(): void {
    const follow = async () => {
      for (;;) {
        const state = await this.#process?.exit
        await this.#process?.drained()
        if (this.#wanted !== 'running') return
        if (!(await this.#afterEnd(state))) return
      }
    }
    this.#watching = follow().catch((error: unknown) => {
      if (this.#detach.signal.aborted) return
      this.#deps.log.error(
        { event: 'worker.supervision_failed', worker_id: this.#record.entry.name, error: messageOf(error) },
        'a worker is no longer watched',
      )
    })
  }

  /** True where the worker runs again. */
  async #afterEnd(ended: ContainerState | undefined): Promise<boolean> {
    for (let last = ended; ; ) {
      if (last === undefined || !(await this.#pauseBeforeRestart(last))) {
        if (this.#wanted === 'running') await this.#settle(last)
        return false
      }
      try {
        await this.#deps.engine.availability.restored(this.#detach.signal)
        await this.#launch()
        if (this.#wanted === 'running') return true
        // The stop may have come before the start that it was to undo.
        await this.#deps.engine.containers.kill(this.#record.containerId)
        return false
      } catch (error) {
        this.#detach.signal.throwIfAborted()
        if (this.#wanted === 'running') last = await this.#endOfFailedStart()
        if (this.#wanted !== 'running') return false
        this.#deps.log.warn(
          { event: 'worker.restart_failed', worker_id: this.#record.entry.name, error: messageOf(error) },
          'a restarted worker did not get ready',
        )
      }
    }
  }

  /** Kills what a start that failed left running; an engine that is away is waited for. */
  async #endOfFailedStart(): Promise<ContainerState | undefined> {
    const { containers } = this.#deps.engine
    for (;;) {
      try {
        await containers.kill(this.#record.containerId)
        await this.#process?.exit
        return await containers.inspect(this.#record.containerId)
      } catch (error) {
        this.#detach.signal.throwIfAborted()
        if (!isEngineFault(error, 'unavailable', 'deadline')) throw error
        await sleep(ENGINE_RETRY_MS, undefined, { signal: this.#detach.signal })
      }
    }
  }

  /** Waits before another start; false where the policy asks for none. */
  async #pauseBeforeRestart(ended: ContainerState): Promise<boolean> {
    const { view } = this.#record.entry
    const ran = (ended.finishedAt?.getTime() ?? 0) - (ended.startedAt?.getTime() ?? 0)
    if (ran >= STABLE_MS) view.restarts = 0
    const exit = this.#record.exitOf(ended, this.#deps.engine.availability)
    const { max_retries } = this.#record.request.restart_policy
    // What its engine ended is no fault of the worker's, and not counted as one.
    const byEngine = max_retries > 0 && endedByEngine(ended, this.#deps.engine.availability)
    if (exit.exit_meaning?.action !== 'restart' || (view.restarts >= max_retries && !byEngine)) return false
    const pause = restartPause(view.restarts)
    await this.#record.update({ status: 'starting', restarts: view.restarts + (byEngine ? 0 : 1), ...exit })
    this.#deps.log.warn(
      { event: 'worker.restarting', worker_id: view.worker_id, exit_code: ended.exitCode, restarts: view.restarts },
      'worker restarts',
    )
    const { signal } = this
    await sleep(pause, undefined, { signal }).catch(() => this.#detach.signal.throwIfAborted())
    return this.#wanted === 'running' && !signal.aborted
  }

  /** Records the end of a worker that nobody asked to end. */
  async #settle(state: ContainerState | undefined): Promise<void> {
    this.#wanted = 'stopped'
    this.#guard?.close()
    await this.#deps.forwarder.close(this.#record.entry.id)
    const exit = this.#record.exitOf(state, this.#deps.engine.availability)
    const action = state === undefined ? 'fail' : exit.exit_meaning?.action
    const status = action === 'complete' ? 'completed' : action === 'stop' ? 'stopped' : 'failed'
    const failure =
      status !== 'failed'
        ? null
        : state === undefined
          ? LOST
          : workerFailure(state, endedByEngine(state, this.#deps.engine.availability))
    if (state === undefined) {
      this.#record.entry.containerId = null
      this.#record.entry.view.container_id = null
    }
    await this.#record.update({ status, failure, stopped_at: timestamp(state?.finishedAt), ...exit })
    await this.#record.sealSpool()
    this.#deps.log.warn(
      { event: 'worker.ended', worker_id: this.#record.entry.name, outcome: status, failure: failure?.code },
      'a worker ended by itself',
    )
  }

  /** Ends the process where one runs, and waits for the rest of its output and for who watches it. */
  async halt(graceSeconds: number): Promise<void> {
    this.#wanted = 'stopped'
    this.#starting.abort(new WorkerInterrupted('stopped'))
    await this.#deps.forwarder.close(this.#record.entry.id)
    const { containerId } = this.#record.entry
    // A frozen process cannot end.
    if (this.#record.entry.view.status === 'paused' && containerId !== null)
      await this.#deps.engine.containers.resume(containerId).catch(() => {})
    try {
      if (this.#process !== undefined) await this.#process.halt(graceSeconds)
      else if (containerId !== null) await this.#deps.engine.containers.kill(containerId)
    } catch (error) {
      // It was not ended: who watches it goes on to do so.
      this.#wanted = 'running'
      throw error
    }
    this.#guard?.close()
    await this.#watching
    this.#process = undefined
  }
}
