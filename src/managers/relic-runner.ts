/** The running container of a relic: launched, watched, restarted when it dies, halted. */
import { setTimeout as sleep } from 'node:timers/promises'
import { timestamp } from '../domain/common.ts'
import type { ContainerState, Engine } from '../engine/engine.ts'
import { isEngineFault, messageOf } from '../errors.ts'
import type { Store } from '../store/store.ts'
import { ContainerProcess, type ContainerProcessOptions } from './container-process.ts'
import type { Log } from './log.ts'
import { endedByEngine, endedInAbsence, failureOf } from './outcome.ts'
import type { PortForwarder } from './port-forwarder.ts'
import type { RelicProber } from './relic-prober.ts'
import { Interrupted, RelicDied } from './relic-problem.ts'
import type { RelicRecord } from './relic-record.ts'
import { restartPause } from './restart-pause.ts'
import type { VolumeResolver } from './volume-resolver.ts'

export interface RelicRunnerDeps {
  engine: Engine
  store: Store
  volumes: VolumeResolver
  forwarder: PortForwarder
  log: Log
}

export class RelicRunner {
  readonly #deps: RelicRunnerDeps
  readonly #record: RelicRecord
  readonly #prober: RelicProber
  /** Aborted when the relic is stopped or removed while it starts. */
  #starting = new AbortController()
  readonly #detach = new AbortController()
  #wanted: 'running' | 'stopped' = 'running'
  #process: ContainerProcess | undefined
  #watching: Promise<void> = Promise.resolve()

  constructor(deps: RelicRunnerDeps, record: RelicRecord, prober: RelicProber) {
    this.#deps = deps
    this.#record = record
    this.#prober = prober
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
    this.#starting.abort(new Interrupted(how))
  }

  /** Lets a start that comes after an interruption go its way. */
  renew(): void {
    this.#wanted = 'running'
    this.#starting = new AbortController()
  }

  /** Leaves the relic running for the next start of the service. */
  detach(): void {
    this.#detach.abort(new Error('The service is stopping'))
  }

  /** Takes over a container that an earlier process started; `state` is what the engine says of it. */
  async adopt(state: ContainerState): Promise<void> {
    const { view, id } = this.#record.entry
    if (view.status === 'stopped' || view.status === 'failed') {
      this.#wanted = 'stopped'
      return
    }
    await this.#record.openSpool()
    this.#process = await ContainerProcess.adopt(this.#processOptions(state.id), this.#deps.store.spools, id)
    await this.#locate(state).catch((error: unknown) => {
      view.ports = {}
      this.#deps.log.error(
        { event: 'relic.ports_lost', relic_id: id, error: messageOf(error) },
        'the published ports of a relic could not be listened on again',
      )
    })
    // One that was being restarted when the earlier process ended is as healthy as its next probe.
    if (view.status === 'starting') void this.#untilHealthy(this.#detach.signal).catch(() => {})
    this.#watching = this.#supervise()
  }

  /** Starts the container and waits until it is healthy; from then on it is watched. */
  async bringUp(signal: AbortSignal): Promise<void> {
    try {
      await this.#launch()
      await this.#untilHealthy(signal)
    } catch (error) {
      this.#wanted = 'stopped'
      throw error
    }
    this.#watching = this.#supervise()
  }

  /** Resolves when all output of an ended process is in its log. */
  async drained(): Promise<void> {
    await this.#process?.drained()
  }

  /** Starts the container with its output attached, and learns where it is. */
  async #launch(): Promise<void> {
    const containerId = this.#record.containerId
    await this.#requireMountsInPlace(containerId)
    this.#process = await ContainerProcess.start({ ...this.#processOptions(containerId), former: this.#process })
    const state = await this.#deps.engine.containers.inspect(containerId)
    if (state === undefined) throw new RelicDied(undefined)
    await this.#locate(state)
    this.#record.entry.view.started_at = timestamp(state.startedAt)
    await this.#record.update({ status: 'starting' })
  }

  /** Looks where what it mounts of the host leads; of one that was rebuilt, its container alone knows what that is. */
  async #requireMountsInPlace(containerId: string): Promise<void> {
    const { request } = this.#record.entry
    if (this.#record.request.volumes.length === 0 && !request?.rebuilt) return
    const { mounts = [] } = (await this.#deps.engine.containers.inspect(containerId)) ?? {}
    await this.#deps.volumes.requireInPlace(mounts)
  }

  #processOptions(containerId: string): ContainerProcessOptions {
    const { engine, log } = this.#deps
    return { engine, containerId, spool: this.#record.spool, log, detach: this.#detach.signal }
  }

  /** Where the relic's port is, and a way to it from this host where one was asked for. */
  async #locate(state: ContainerState): Promise<void> {
    const endpoint = state.networks.find((network) => network.networkId === this.#record.entry.view.network?.id)
    if (endpoint === undefined || endpoint.address === '') return
    const door = {
      containerId: state.id,
      networkId: endpoint.networkId,
      address: endpoint.address,
      gateway: endpoint.gateway,
      namespace: state.networkNamespace,
      port: this.#record.request.port,
    }
    this.#prober.door = door
    // A relic that is started again keeps its host ports.
    const wanted = { ...this.#record.request.ports, ...this.#record.entry.view.ports }
    this.#record.entry.view.ports = await this.#deps.forwarder.open(this.#record.entry.id, wanted, door)
  }

  /** Resolves when it is healthy; rejects at once when the container ends, on abort and at the end of its time. */
  async #untilHealthy(signal: AbortSignal): Promise<void> {
    const over = new AbortController()
    const limited = AbortSignal.any([
      signal,
      over.signal,
      AbortSignal.timeout(Math.ceil(this.#record.request.health_check_timeout_seconds * 1000)),
    ])
    const exit = this.#process?.exit
    void exit?.then(
      (state) => over.abort(new RelicDied(state)),
      () => {},
    )
    if (this.#prober.isAsked) {
      if (this.#prober.door === undefined) throw new RelicDied(await exit)
      await this.#prober.untilHealthy(this.#prober.door, limited)
    }
    // The port of a relic that was rebuilt is not known.
    const { view, request } = this.#record.entry
    const internal_url = request?.rebuilt ? null : `http://${view.container_name}:${this.#record.request.port}`
    await this.#record.update({ status: 'healthy', healthy_at: timestamp(), internal_url })
    this.#deps.log.info(
      { event: 'relic.healthy', relic_id: view.relic_id, relic_name: view.relic_name, session_id: view.session_id },
      'relic healthy',
    )
  }

  /** Follows a relic that runs: keeps its health current, and restarts it when it dies. */
  async #supervise(): Promise<void> {
    try {
      for (;;) {
        const watching = new AbortController()
        const probing = this.#prober.watch(AbortSignal.any([watching.signal, this.#detach.signal]))
        const state = await this.#process?.exit
        watching.abort()
        await probing
        await this.#process?.drained()
        if (this.#wanted !== 'running') return
        if (!(await this.#revive(state))) return
      }
    } catch (error) {
      if (this.#detach.signal.aborted) return
      this.#deps.log.error(
        { event: 'relic.supervision_failed', relic_id: this.#record.entry.id, error: messageOf(error) },
        'a relic is no longer watched',
      )
    }
  }

  /** Starts a relic that ended by itself again, as often as its policy says; false where it is over. */
  async #revive(ended: ContainerState | undefined): Promise<boolean> {
    let last = ended
    for (;;) {
      const { max_retries } = this.#record.request.restart_policy
      // What its engine ended is no fault of the relic's, and not counted as one.
      const { availability } = this.#deps.engine
      // A service that is asked to end by an engine that stops may well do so with exit code 0.
      const isClean = last?.exitCode === 0
      const byEngine =
        last !== undefined && max_retries > 0 && (isClean ? endedInAbsence : endedByEngine)(last, availability)
      const { restarts } = this.#record.entry.view
      if (last === undefined || (!byEngine && (isClean || restarts >= max_retries))) {
        await this.#settle(last)
        return false
      }
      const pause = restartPause(restarts)
      await this.#record.update({ status: 'starting', restarts: restarts + (byEngine ? 0 : 1) })
      await sleep(pause, undefined, { signal: this.signal }).catch(() => this.#detach.signal.throwIfAborted())
      if (this.#wanted !== 'running') return false
      this.#deps.log.warn(
        {
          event: 'relic.restarted',
          relic_id: this.#record.entry.id,
          exit_code: last.exitCode,
          restarts: this.#record.entry.view.restarts,
        },
        'relic restarted',
      )
      try {
        await this.#deps.engine.availability.restored(this.#detach.signal)
        await this.#launch()
        await this.#untilHealthy(this.signal)
        return true
      } catch (error) {
        this.#detach.signal.throwIfAborted()
        if (this.#wanted !== 'running') {
          // The stop may have come before the start that it was to undo.
          await this.#deps.engine.containers.kill(this.#record.containerId)
          return false
        }
        last = error instanceof RelicDied ? error.state : await this.#endOfFailedStart()
      }
    }
  }

  /** Kills what a start that failed left running; an engine that is away is waited for. */
  async #endOfFailedStart(): Promise<ContainerState | undefined> {
    const { availability, containers } = this.#deps.engine
    for (;;) {
      try {
        await availability.restored(this.#detach.signal)
        await containers.kill(this.#record.containerId)
        return await containers.inspect(this.#record.containerId)
      } catch (error) {
        if (!isEngineFault(error, 'unavailable', 'deadline')) throw error
      }
    }
  }

  /** Records the end of a relic that nobody asked to end. */
  async #settle(state: ContainerState | undefined): Promise<void> {
    const failure =
      state === undefined
        ? { code: 'lost' as const, message: 'The container was removed by somebody else while it ran', hint: null }
        : state.exitCode === 0
          ? null
          : failureOf(state, endedByEngine(state, this.#deps.engine.availability))
    this.#wanted = 'stopped'
    await this.#deps.forwarder.close(this.#record.entry.id)
    if (state === undefined) {
      this.#record.entry.containerId = null
      this.#record.entry.view.container_id = null
    }
    await this.#record.update({
      status: failure === null ? 'stopped' : 'failed',
      failure,
      stopped_at: timestamp(state?.finishedAt),
      internal_url: null,
    })
    await this.#record.sealSpool()
    this.#deps.log.warn(
      { event: 'relic.ended', relic_id: this.#record.entry.id, failure: failure?.code },
      'a relic ended by itself',
    )
  }

  /** Ends the process where one runs, and waits for the rest of its output and for who watches it. */
  async halt(graceSeconds: number): Promise<void> {
    this.#wanted = 'stopped'
    this.interrupt('stopped')
    await this.#deps.forwarder.close(this.#record.entry.id)
    const { containerId } = this.#record.entry
    if (this.#process !== undefined) await this.#process.halt(graceSeconds)
    else if (containerId !== null) await this.#deps.engine.containers.kill(containerId)
    await this.#watching
    await this.drained()
  }

  /** Kills what runs of a start that failed. */
  async abandon(): Promise<void> {
    const { containerId, id } = this.#record.entry
    this.#wanted = 'stopped'
    await this.#deps.forwarder.close(id)
    if (containerId !== null) await this.#deps.engine.containers.kill(containerId).catch(() => false)
  }
}
