/** One worker from its start to its removal: launched, watched, restarted when it dies, refreshed, stopped. */
import { setTimeout as sleep } from 'node:timers/promises'
import { timestamp } from '../domain/common.ts'
import type { RefreshWorker, StartWorker, Worker, WorkerStatus } from '../domain/worker.ts'
import type { ContainerState, Engine } from '../engine/engine.ts'
import { AppError, messageOf } from '../errors.ts'
import { exitMeaning } from '../policy/exit-codes.ts'
import type { Entry } from '../store/records.ts'
import type { SpoolWriter } from '../store/spool-writer.ts'
import type { Store } from '../store/store.ts'
import { CommandGate } from './command-gate.ts'
import { ContainerProcess } from './container-process.ts'
import type { DoorTarget } from './door.ts'
import type { Log } from './log.ts'
import type { LogReader } from './log-reader.ts'
import { failureOf } from './outcome.ts'
import type { PortForwarder } from './port-forwarder.ts'
import { type BlueprintDeps, newNonce, WorkerBlueprint, type WorkerDecision } from './worker-blueprint.ts'
import { launch, untilReady } from './worker-launch.ts'
import { LOST, startFailure, startProblem, WorkerEnded, WorkerInterrupted } from './worker-problem.ts'

export type WorkerEntry = Entry<StartWorker, Worker>

export interface WorkerLifeDeps extends BlueprintDeps {
  engine: Engine
  store: Store
  forwarder: PortForwarder
  logs: LogReader
  log: Log
}

const RESTART_PAUSE_MS = 200
const LONGEST_RESTART_PAUSE_MS = 10_000
/** One that ran so long begins to count its restarts anew. */
const STABLE_MS = 10 * 60_000
const TAIL_LINES = 50
/** Row status of a worker that callers do not see any more. */
export const DELETED = 'deleted'

/** States in which a worker has a container that runs, or is about to. */
export const LIVE: ReadonlySet<WorkerStatus> = new Set<WorkerStatus>(['preparing', 'starting', 'running', 'paused'])

export class WorkerLife {
  readonly entry: WorkerEntry
  /** What of the service's commands runs inside. */
  readonly commands = new CommandGate()
  readonly #deps: WorkerLifeDeps
  readonly #request: StartWorker
  readonly #decide: () => WorkerDecision
  #starting = new AbortController()
  readonly #detach = new AbortController()
  #wanted: 'running' | 'stopped' = 'running'
  #spool: SpoolWriter | undefined
  #process: ContainerProcess | undefined
  #watching: Promise<void> = Promise.resolve()
  #turn: Promise<unknown> = Promise.resolve()

  /** `decide` applies policy, each time that a container is made or its secrets are read. */
  constructor(deps: WorkerLifeDeps, entry: WorkerEntry, request: StartWorker, decide: () => WorkerDecision) {
    this.#deps = deps
    this.entry = entry
    this.#request = request
    this.#decide = decide
  }

  get request(): StartWorker {
    return this.#request
  }

  /** Makes its container and waits until it is ready; whatever fails is undone, and told as a problem. */
  start(): Promise<Worker> {
    return this.#exclusively(async () => {
      const { volumes } = this.#deps
      const before = new Set(await volumes.workerVolumes(this.entry.name))
      try {
        await this.#create()
        await this.#bringUp()
      } catch (error) {
        throw await this.#undo(error, before)
      }
      return this.entry.view
    })
  }

  /** Takes over a container that an earlier process started; `state` is what the engine says of it. */
  async adopt(state: ContainerState): Promise<void> {
    const { status } = this.entry.view
    if (!LIVE.has(status)) {
      this.#wanted = 'stopped'
      return
    }
    // A new mark: a container that was being made in its place is nobody's.
    this.entry.nonce = newNonce()
    this.#spool = await this.#deps.store.spools.open(this.entry.id)
    if (status === 'starting' && (state.status === 'running' || state.status === 'paused')) {
      // It may still wait for its private files, which died with the earlier process.
      await this.#deps.engine.containers.kill(state.id)
    }
    this.#process = await ContainerProcess.adopt(this.#processOptions(state.id), this.#deps.store.spools, this.entry.id)
    await this.#locate(state).catch((error: unknown) => {
      this.entry.view.ports = {}
      this.#deps.log.error(
        { event: 'worker.ports_lost', worker_id: this.entry.name, error: messageOf(error) },
        'the published ports of a worker could not be listened on again',
      )
    })
    const running = state.status === 'paused' ? 'paused' : 'running'
    if (status !== 'starting') await this.#update({ status: running })
    this.#watch()
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
    this.#starting.abort(new WorkerInterrupted('stopped'))
    return this.#exclusively(async () => {
      const wasLive = LIVE.has(this.entry.view.status)
      await this.#halt(graceSeconds)
      if (wasLive) {
        const { containerId } = this.entry
        const state = containerId === null ? undefined : await this.#deps.engine.containers.inspect(containerId)
        await this.#update({ status: 'stopped', stopped_at: timestamp(state?.finishedAt), ...this.#exitOf(state) })
      }
      await this.#deps.store.spools.seal(this.entry.id)
      return this.entry.view
    })
  }

  /** Stops it where it runs, and starts the same container again. */
  restart(graceSeconds: number): Promise<Worker> {
    return this.#exclusively(async () => {
      await this.#halt(graceSeconds)
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
      this.#requireStatus('running')
      await this.#deps.engine.containers.pause(this.#containerId())
      await this.#update({ status: 'paused' })
      return this.entry.view
    })
  }

  resume(): Promise<Worker> {
    return this.#exclusively(async () => {
      if (this.entry.view.status === 'running') return this.entry.view
      this.#requireStatus('paused')
      await this.#thaw()
      return this.entry.view
    })
  }

  /** Removes container, volumes of its own and logs, and the worker from what callers see. */
  remove(graceSeconds: number, options: { keepVolumes?: boolean } = {}): Promise<void> {
    this.#starting.abort(new WorkerInterrupted('removed'))
    return this.#exclusively(async () => {
      if (this.entry.status === DELETED) return
      await this.#halt(graceSeconds)
      const { docker, engine, store, volumes } = this.#deps
      if (this.entry.containerId !== null) await docker.remove(this.entry.containerId)
      if (!options.keepVolumes) {
        for (const name of await volumes.workerVolumes(this.entry.name)) await engine.volumes.remove(name)
      }
      this.entry.containerId = null
      this.entry.live = false
      this.entry.request = null
      this.entry.view.container_id = null
      await this.#update({ status: 'stopped', stopped_at: this.entry.view.stopped_at ?? timestamp() }, DELETED)
      await store.spools.remove(this.entry.id)
    })
  }

  /** Leaves the worker running for the next start of the service. */
  detach(): void {
    this.#detach.abort(new Error('The service is stopping'))
  }

  /** True where a container is this worker's, or is being made to be. */
  claims(containerId: string, nonce: string): boolean {
    return this.entry.containerId === containerId || this.entry.nonce === nonce
  }

  async #again(): Promise<Worker> {
    const { containers } = this.#deps.engine
    const { containerId } = this.entry
    this.#starting = new AbortController()
    this.entry.view.restarts = 0
    const state = containerId === null ? undefined : await containers.inspect(containerId)
    try {
      // Without its container, or the network of it, a new one takes its place.
      if (state === undefined || !(await this.#networkIsThere())) {
        if (state !== undefined) await this.#deps.docker.remove(state.id)
        await this.#create()
      }
      await this.#bringUp()
    } catch (error) {
      throw await this.#giveUp(error)
    }
    return this.entry.view
  }

  /** A start of a container that is kept has failed: it stays stopped, with the reason. */
  async #giveUp(error: unknown): Promise<AppError> {
    const problem = await this.#problem(error)
    await this.#halt(0)
    await this.#update({ status: 'failed', failure: startFailure(problem, error), stopped_at: timestamp() })
    await this.#deps.store.spools.seal(this.entry.id)
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
    const wasLive = LIVE.has(this.entry.view.status)
    await this.#create()
    const made = this.#containerId()
    try {
      this.entry.containerId = old
      await this.#halt(graceSeconds)
      this.entry.containerId = made
      this.entry.view.container_id = made
      this.#starting = new AbortController()
      await this.#bringUp()
    } catch (error) {
      const problem = await this.#problem(error)
      await this.#halt(0)
      await docker.remove(made)
      this.entry.containerId = old
      Object.assign(this.entry.view, { container_id: old, container_name, image_id, user, home, network })
      this.#deps.log.warn(
        { event: 'worker.refresh_failed', worker_id: this.entry.name, error: problem.message },
        'a worker could not be refreshed and keeps its container',
      )
      this.#starting = new AbortController()
      if (wasLive && old !== null) await this.#bringUp().catch((failure: unknown) => this.#giveUp(failure))
      else await this.#update({ status: 'stopped' })
      throw problem
    }
    if (old !== null) await docker.remove(old)
    await this.#update({
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
    await this.#deps.store.workers.update(this.entry)
    const signal = AbortSignal.any([this.#starting.signal, this.#detach.signal])
    const made = await this.#blueprint().create({ recordId: this.entry.id, nonce: this.entry.nonce }, signal)
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
    await this.#deps.store.workers.update(this.entry)
  }

  #blueprint(): WorkerBlueprint {
    return new WorkerBlueprint(this.#deps, this.#request, this.#decide())
  }

  /** Starts the container and waits until it is ready, as often as its restart policy says; then watches it. */
  async #bringUp(): Promise<void> {
    this.#wanted = 'running'
    this.#spool = await this.#deps.store.spools.open(this.entry.id)
    await this.#update({ status: 'starting', failure: null, exit_code: null, exit_meaning: null, stopped_at: null })
    for (;;) {
      try {
        await this.#launch()
        break
      } catch (error) {
        if (!(error instanceof WorkerEnded) || error.state === undefined) throw error
        await this.#process?.drained()
        if (error.phase === 'running' && this.#meaningOf(error.state).action === 'complete')
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
    const containerId = this.#containerId()
    const signal = AbortSignal.any([this.#starting.signal, this.#detach.signal])
    const privateTar = await this.#blueprint().privateTar(this.entry.view.home ?? '/')
    signal.throwIfAborted()
    this.#process = await launch({ ...this.#processOptions(containerId), privateTar })
    const state = await engine.containers.inspect(containerId)
    if (state === undefined) throw new WorkerEnded('running', undefined)
    await this.#locate(state)
    this.entry.view.started_at = timestamp(state.startedAt)
    await untilReady({ engine, log, containerId }, this.#request.ready, this.#process, signal)
    await this.#update({ status: 'running', ready_at: timestamp() })
    const { worker_id, session_id } = this.entry.view
    log.info({ event: 'worker.ready', worker_id, session_id, container_id: containerId }, 'worker ready')
  }

  #processOptions(containerId: string) {
    if (this.#spool === undefined) throw new Error('a worker was started before its spool was open')
    const { engine, log } = this.#deps
    return { engine, containerId, spool: this.#spool, log, detach: this.#detach.signal }
  }

  /** A way to its ports from this host, where some were asked for. */
  async #locate(state: ContainerState): Promise<void> {
    const wanted = { ...this.#request.ports, ...this.entry.view.ports }
    if (Object.keys(wanted).length === 0) return
    const { network } = this.entry.view
    const endpoint = state.networks.find(({ networkId, networkName }) =>
      network.id === null ? networkName === network.name : networkId === network.id,
    )
    if (endpoint === undefined || endpoint.address === '') return
    const { networkId, address, gateway } = endpoint
    const target: Omit<DoorTarget, 'port'> = { containerId: state.id, networkId, address, gateway }
    this.entry.view.ports = await this.#deps.forwarder.open(this.entry.id, wanted, target)
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
        { event: 'worker.supervision_failed', worker_id: this.entry.name, error: messageOf(error) },
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
        await this.#launch()
        if (this.#wanted === 'running') return true
        // The stop may have come before the start that it was to undo.
        await this.#deps.engine.containers.kill(this.#containerId())
        return false
      } catch (error) {
        this.#detach.signal.throwIfAborted()
        const { containers } = this.#deps.engine
        await containers.kill(this.#containerId())
        if (this.#wanted !== 'running') return false
        await this.#process?.exit
        last = await containers.inspect(this.#containerId())
        this.#deps.log.warn(
          { event: 'worker.restart_failed', worker_id: this.entry.name, error: messageOf(error) },
          'a restarted worker did not get ready',
        )
      }
    }
  }

  /** Waits before another start; false where the policy asks for none. */
  async #pauseBeforeRestart(ended: ContainerState): Promise<boolean> {
    const { view } = this.entry
    const ran = (ended.finishedAt?.getTime() ?? 0) - (ended.startedAt?.getTime() ?? 0)
    if (ran >= STABLE_MS) view.restarts = 0
    const exit = this.#exitOf(ended)
    if (exit.exit_meaning?.action !== 'restart' || view.restarts >= this.#request.restart_policy.max_retries)
      return false
    const pause = Math.min(RESTART_PAUSE_MS * 2 ** view.restarts, LONGEST_RESTART_PAUSE_MS)
    await this.#update({ status: 'starting', restarts: view.restarts + 1, ...exit })
    this.#deps.log.warn(
      { event: 'worker.restarting', worker_id: view.worker_id, exit_code: ended.exitCode, restarts: view.restarts },
      'worker restarts',
    )
    const signal = AbortSignal.any([this.#starting.signal, this.#detach.signal])
    await sleep(pause, undefined, { signal }).catch(() => this.#detach.signal.throwIfAborted())
    return this.#wanted === 'running' && !signal.aborted
  }

  /** Records the end of a worker that nobody asked to end. */
  async #settle(state: ContainerState | undefined): Promise<void> {
    this.#wanted = 'stopped'
    await this.#deps.forwarder.close(this.entry.id)
    const exit = this.#exitOf(state)
    const action = state === undefined ? 'fail' : exit.exit_meaning?.action
    const status = action === 'complete' ? 'completed' : action === 'stop' ? 'stopped' : 'failed'
    const failure = status !== 'failed' ? null : state === undefined ? LOST : this.#failureOf(state)
    if (state === undefined) {
      this.entry.containerId = null
      this.entry.view.container_id = null
    }
    await this.#update({ status, failure, stopped_at: timestamp(state?.finishedAt), ...exit })
    await this.#deps.store.spools.seal(this.entry.id)
    this.#deps.log.warn(
      { event: 'worker.ended', worker_id: this.entry.name, outcome: status, failure: failure?.code },
      'a worker ended by itself',
    )
  }

  #meaningOf(state: ContainerState) {
    return exitMeaning(state, this.#request.exit_codes)
  }

  #exitOf(state: ContainerState | undefined): Pick<Worker, 'exit_code' | 'exit_meaning'> {
    if (state?.startedAt === undefined) return { exit_code: null, exit_meaning: null }
    return { exit_code: state.exitCode, exit_meaning: this.#meaningOf(state) }
  }

  #failureOf(state: ContainerState) {
    if (state.exitCode === 0) return { code: 'nonzero_exit' as const, message: 'It ended with exit code 0', hint: null }
    const failure = failureOf(state)
    return failure.code === 'oom_killed' ? { ...failure, hint: 'Raise memory_limit.' } : failure
  }

  /** Ends the process where one runs, and waits for the rest of its output and for who watches it. */
  async #halt(graceSeconds: number): Promise<void> {
    this.#wanted = 'stopped'
    this.#starting.abort(new WorkerInterrupted('stopped'))
    await this.#deps.forwarder.close(this.entry.id)
    const { containerId } = this.entry
    // A frozen process cannot end.
    if (this.entry.view.status === 'paused' && containerId !== null)
      await this.#deps.engine.containers.resume(containerId).catch(() => {})
    if (this.#process !== undefined) await this.#process.halt(graceSeconds)
    else if (containerId !== null) await this.#deps.engine.containers.kill(containerId)
    await this.#watching
    this.#process = undefined
  }

  async #thaw(): Promise<void> {
    await this.#deps.engine.containers.resume(this.#containerId())
    await this.#update({ status: 'running' })
  }

  /** A start that failed leaves nothing that was not there before, or its stopped container where that was asked for. */
  async #undo(error: unknown, volumesBefore: ReadonlySet<string>): Promise<AppError> {
    if (this.#detach.signal.aborted)
      return new AppError('draining', 'The service is stopping', { retryAfterSeconds: 5 })
    const { docker, engine, log, store, volumes } = this.#deps
    const { containerId } = this.entry
    this.#wanted = 'stopped'
    await this.#deps.forwarder.close(this.entry.id)
    const ended = error instanceof WorkerEnded ? error.state : undefined
    // Killed first: only then is what it wrote complete.
    if (containerId !== null) await engine.containers.kill(containerId).catch(() => false)
    const problem = await this.#problem(error)
    const keep = this.#request.keep_on_failure && containerId !== null && !(error instanceof WorkerInterrupted)
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
    this.#process = undefined
    const failure = startFailure(problem, error)
    await this.#update({ status: 'failed', failure, stopped_at: timestamp(), ...this.#exitOf(ended) })
    await store.spools.seal(this.entry.id)
    log.warn(
      { event: 'worker.start_failed', worker_id: this.entry.name, failure: failure.code, detail: failure.message },
      'worker failed to start',
    )
    return problem
  }

  async #problem(error: unknown): Promise<AppError> {
    await this.#process?.drained()
    const tail = await this.#deps.logs.lastLines(this.entry.id, TAIL_LINES)
    return startProblem(error, this.entry.name, tail, this.entry.view.restarts)
  }

  async #update(change: Partial<Worker> & { status: WorkerStatus }, rowStatus: string = change.status): Promise<void> {
    const told = this.entry.view.status !== change.status
    Object.assign(this.entry.view, change)
    this.entry.status = rowStatus
    await this.#deps.store.workers.update(this.entry)
    if (told) this.#spool?.state({ status: change.status, at: timestamp() })
  }

  #requireStatus(wanted: WorkerStatus): void {
    const { status, worker_id } = this.entry.view
    if (status === wanted) return
    throw new AppError('conflict', `Worker "${worker_id}" is ${status}, not ${wanted}`)
  }

  #containerId(): string {
    if (this.entry.containerId !== null) return this.entry.containerId
    throw new AppError('conflict', `Worker "${this.entry.name}" has no container`)
  }

  /** One change at a time, in the order they came. */
  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work)
    this.#turn = result.catch(() => {})
    return result
  }
}
