/** One relic from its start to its removal: started, watched, restarted when it dies, stopped. */
import { setTimeout as sleep } from 'node:timers/promises'
import { timestamp } from '../domain/common.ts'
import type { Probe, Relic, RelicHealth, RelicStatus, StartRelic } from '../domain/relic.ts'
import type { ContainerState, Engine } from '../engine/engine.ts'
import { AppError, messageOf } from '../errors.ts'
import { planRelic } from '../policy/container-policy.ts'
import type { Profile } from '../policy/profiles.ts'
import type { VolumeDecision } from '../policy/volumes.ts'
import type { Entry } from '../store/records.ts'
import type { SpoolWriter } from '../store/spool-writer.ts'
import type { Store } from '../store/store.ts'
import { ContainerProcess, type ContainerProcessOptions } from './container-process.ts'
import type { DockerManager } from './docker-manager.ts'
import type { DoorTarget } from './door.ts'
import type { HealthPoller } from './health-poller.ts'
import type { ImageManager } from './image-manager.ts'
import type { Log } from './log.ts'
import type { LogReader } from './log-reader.ts'
import type { NetworkManager, SessionNetwork } from './network-manager.ts'
import { failureOf } from './outcome.ts'
import type { PortForwarder } from './port-forwarder.ts'
import { ProbeHistory } from './probe-history.ts'
import { Interrupted, RelicDied, startFailure, startProblem } from './relic-problem.ts'
import { restartPause } from './restart-pause.ts'
import type { Toolbox } from './toolbox.ts'
import { Turns } from './turns.ts'
import type { VolumeResolver } from './volume-resolver.ts'

export type RelicEntry = Entry<StartRelic, Relic>

export interface RelicLifeDeps {
  engine: Engine
  store: Store
  docker: DockerManager
  networks: NetworkManager
  images: ImageManager
  volumes: VolumeResolver
  toolbox: Toolbox
  poller: HealthPoller
  forwarder: PortForwarder
  logs: LogReader
  log: Log
}

export interface RelicDecision {
  profile: Profile
  volumes: readonly VolumeDecision[]
}

const PROBE_INTERVAL_MS = 10_000
const TAIL_LINES = 50
/** Row status of a relic that callers do not see any more. */
export const DELETED = 'deleted'

export class RelicLife {
  readonly entry: RelicEntry
  readonly #deps: RelicLifeDeps
  readonly #request: StartRelic
  /** Absent for a relic that is adopted: its container is made. */
  readonly #decision: RelicDecision | undefined
  /** Aborted when the relic is stopped or removed while it starts. */
  #starting = new AbortController()
  readonly #detach = new AbortController()
  readonly #probes = new ProbeHistory()
  #wanted: 'running' | 'stopped' = 'running'
  #spool: SpoolWriter | undefined
  #process: ContainerProcess | undefined
  #door: DoorTarget | undefined
  /** One of start, stop, restart and remove at a time. */
  readonly #turns = new Turns()

  constructor(deps: RelicLifeDeps, entry: RelicEntry, request: StartRelic, decision?: RelicDecision) {
    this.#deps = deps
    this.entry = entry
    this.#request = request
    this.#decision = decision
  }

  /** Starts it and waits until it is healthy; whatever fails is undone, and told as a problem. */
  start(): Promise<Relic> {
    return this.#turns.take(() => this.#start())
  }

  async #start(): Promise<Relic> {
    const { timeout_seconds } = this.#request.resource_limits
    const deadline = AbortSignal.timeout(timeout_seconds * 1000)
    const signal = AbortSignal.any([deadline, this.#starting.signal, this.#detach.signal])
    try {
      this.#spool = await this.#deps.store.spools.open(this.entry.id)
      this.#spool.state({ status: this.entry.view.status, at: timestamp() })
      await this.#create(signal)
      await this.#launch()
      await this.#untilHealthy(signal)
    } catch (error) {
      if (this.#detach.signal.aborted)
        throw new AppError('draining', 'The service is stopping', { retryAfterSeconds: 5 })
      throw await this.#undo(error, deadline.aborted)
    }
    void this.#supervise()
    return this.entry.view
  }

  /** Takes over a container that an earlier process started; `state` is what the engine says of it. */
  async adopt(state: ContainerState): Promise<void> {
    if (this.entry.view.status === 'stopped' || this.entry.view.status === 'failed') {
      this.#wanted = 'stopped'
      return
    }
    const { store } = this.#deps
    this.#spool = await store.spools.open(this.entry.id)
    this.#process = await ContainerProcess.adopt(this.#processOptions(state.id), store.spools, this.entry.id)
    await this.#locate(state).catch((error: unknown) => {
      this.entry.view.ports = {}
      this.#deps.log.error(
        { event: 'relic.ports_lost', relic_id: this.entry.id, error: messageOf(error) },
        'the published ports of a relic could not be listened on again',
      )
    })
    // One that was being restarted when the earlier process ended is as healthy as its next probe.
    if (this.entry.view.status === 'starting') void this.#untilHealthy(this.#detach.signal).catch(() => {})
    void this.#supervise()
  }

  /** Stops it and keeps the container for inspection; a stopped one stays as it is. */
  stop(graceSeconds: number): Promise<Relic> {
    this.#starting.abort(new Interrupted('stopped'))
    return this.#turns.take(async () => {
      await this.#halt(graceSeconds)
      if (this.entry.view.status !== 'failed')
        await this.#update({ status: 'stopped', stopped_at: timestamp(), internal_url: null })
      await this.#deps.store.spools.seal(this.entry.id)
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
      await this.#halt(graceSeconds)
      await this.#deps.store.spools.seal(this.entry.id)
      this.#spool = await this.#deps.store.spools.open(this.entry.id)
      this.#wanted = 'running'
      this.#starting = new AbortController()
      await this.#update({
        status: 'starting',
        failure: null,
        stopped_at: null,
        restarts: this.entry.view.restarts + 1,
      })
      try {
        await this.#launch()
        await this.#untilHealthy(AbortSignal.any([this.#starting.signal, this.#detach.signal]))
      } catch (error) {
        this.#wanted = 'stopped'
        const problem = await this.#problem(error, false)
        await this.#halt(0)
        await this.#update({ status: 'failed', failure: startFailure(problem, error), internal_url: null })
        throw problem
      }
      void this.#supervise()
      return this.entry.view
    })
  }

  /** Removes the container, and the relic from what callers see. */
  remove(graceSeconds: number): Promise<void> {
    this.#starting.abort(new Interrupted('removed'))
    return this.#turns.take(async () => {
      if (this.entry.status === DELETED) return
      await this.#halt(graceSeconds)
      if (this.entry.containerId !== null) await this.#deps.docker.remove(this.entry.containerId)
      this.entry.containerId = null
      this.entry.live = false
      this.entry.request = null
      this.entry.view.container_id = null
      await this.#update({ status: 'stopped', stopped_at: this.entry.view.stopped_at ?? timestamp() }, DELETED)
      await this.#deps.store.spools.remove(this.entry.id)
    })
  }

  /** Health as of at most a second ago, with the last probes. */
  async health(): Promise<RelicHealth> {
    const path = this.#request.health_check_endpoint
    const { status } = this.entry.view
    if (
      path !== null &&
      this.#door !== undefined &&
      !this.#probes.isFresh &&
      (status === 'healthy' || status === 'unhealthy')
    ) {
      await this.#note(await this.#deps.poller.probe(this.#door, path))
    }
    return {
      relic_id: this.entry.id,
      status: this.entry.view.status,
      healthy: this.entry.view.status === 'healthy',
      probes: this.#probes.all,
    }
  }

  /** Leaves the relic running for the next start of the service. */
  detach(): void {
    this.#detach.abort(new Error('The service is stopping'))
  }

  async #create(signal: AbortSignal): Promise<void> {
    const { docker, images, networks, toolbox, volumes } = this.#deps
    const decision = this.#decision
    if (decision === undefined) throw new Error('a relic without a policy decision cannot be created')
    const [image, network, mounts, tools] = await Promise.all([
      images.resolve(this.#request, this.entry.sessionId, signal),
      this.#network(networks),
      volumes.resolve(decision.volumes, { session: this.entry.sessionId, open: false }),
      toolbox.mount(),
    ])
    signal.throwIfAborted()
    this.entry.containerId = await docker.create({
      owner: {
        kind: 'relic',
        id: this.entry.id,
        session: this.entry.sessionId,
        name: this.entry.name,
        nonce: this.entry.nonce,
      },
      containerName: this.entry.view.container_name,
      imageId: image.id,
      plan: planRelic(this.#request, decision.profile, [...mounts, tools]),
      network: { mode: 'network', networkId: network.id, aliases: [this.entry.name] },
      labels: this.#request.labels,
    })
    await this.#update({
      status: 'starting',
      container_id: this.entry.containerId,
      image: image.reference,
      image_id: image.id,
      network: { id: network.id, name: network.name },
    })
    signal.throwIfAborted()
  }

  async #network(networks: NetworkManager): Promise<SessionNetwork> {
    if (this.#request.create_private_network) return networks.ensure(this.entry.sessionId)
    const network = await networks.get(this.entry.sessionId)
    if (network !== undefined) return network
    throw new AppError('conflict', `Session "${this.entry.sessionId}" has no network yet`, {
      hint: 'Leave create_private_network out, or start the relic that makes the network first.',
    })
  }

  /** Starts the container with its output attached, and learns where it is. */
  async #launch(): Promise<void> {
    const containerId = this.#containerId()
    const before = await this.#deps.engine.containers.inspect(containerId)
    await this.#deps.volumes.requireInPlace(before?.mounts ?? [])
    this.#process = await ContainerProcess.start(this.#processOptions(containerId))
    const state = await this.#deps.engine.containers.inspect(containerId)
    if (state === undefined) throw new RelicDied(undefined)
    await this.#locate(state)
    this.entry.view.started_at = timestamp(state.startedAt)
    await this.#update({ status: 'starting' })
  }

  #processOptions(containerId: string): ContainerProcessOptions {
    if (this.#spool === undefined) throw new Error('a relic was started before its spool was open')
    const { engine, log } = this.#deps
    return { engine, containerId, spool: this.#spool, log, detach: this.#detach.signal }
  }

  /** Where the relic's port is, and a way to it from this host where one was asked for. */
  async #locate(state: ContainerState): Promise<void> {
    const endpoint = state.networks.find((network) => network.networkId === this.entry.view.network?.id)
    if (endpoint === undefined || endpoint.address === '') return
    this.#door = {
      containerId: state.id,
      networkId: endpoint.networkId,
      address: endpoint.address,
      gateway: endpoint.gateway,
      port: this.#request.port,
    }
    // A relic that is started again keeps its host ports.
    const wanted = { ...this.#request.ports, ...this.entry.view.ports }
    this.entry.view.ports = await this.#deps.forwarder.open(this.entry.id, wanted, this.#door)
  }

  /** Resolves when it is healthy; rejects at once when the container ends, on abort and at the end of its time. */
  async #untilHealthy(signal: AbortSignal): Promise<void> {
    const path = this.#request.health_check_endpoint
    const over = new AbortController()
    const limited = AbortSignal.any([
      signal,
      over.signal,
      AbortSignal.timeout(this.#request.health_check_timeout_seconds * 1000),
    ])
    const exit = this.#process?.exit
    void exit?.then(
      (state) => over.abort(new RelicDied(state)),
      () => {},
    )
    if (path !== null) {
      if (this.#door === undefined) throw new RelicDied(await exit)
      try {
        await this.#deps.poller.untilHealthy(this.#door, path, limited, (probe) => this.#probes.add(probe))
      } catch (error) {
        // A wait that was cut short tells why it was, not that it was.
        throw limited.aborted ? limited.reason : error
      }
    }
    const internal_url = `http://${this.entry.view.container_name}:${this.#request.port}`
    await this.#update({ status: 'healthy', healthy_at: timestamp(), internal_url })
    const { view } = this.entry
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
        const probing = this.#probeRegularly(watching.signal)
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
        { event: 'relic.supervision_failed', relic_id: this.entry.id, error: messageOf(error) },
        'a relic is no longer watched',
      )
    }
  }

  /** Starts a relic that ended by itself again, as often as its policy says; false where it is over. */
  async #revive(ended: ContainerState | undefined): Promise<boolean> {
    let last = ended
    for (;;) {
      const { max_retries } = this.#request.restart_policy
      const clean = last?.exitCode === 0
      if (last === undefined || clean || this.entry.view.restarts >= max_retries) {
        await this.#settle(last)
        return false
      }
      const pause = restartPause(this.entry.view.restarts)
      await this.#update({ status: 'starting', restarts: this.entry.view.restarts + 1 })
      await sleep(pause, undefined, { signal: this.#detach.signal })
      if (this.#wanted !== 'running') return false
      this.#deps.log.warn(
        {
          event: 'relic.restarted',
          relic_id: this.entry.id,
          exit_code: last.exitCode,
          restarts: this.entry.view.restarts,
        },
        'relic restarted',
      )
      try {
        await this.#launch()
        await this.#untilHealthy(AbortSignal.any([this.#starting.signal, this.#detach.signal]))
        return true
      } catch (error) {
        this.#detach.signal.throwIfAborted()
        if (this.#wanted !== 'running') {
          // The stop may have come before the start that it was to undo.
          await this.#deps.engine.containers.kill(this.#containerId())
          return false
        }
        last =
          error instanceof RelicDied ? error.state : await this.#deps.engine.containers.inspect(this.#containerId())
        if (last?.status === 'running') {
          await this.#deps.engine.containers.kill(last.id)
          last = await this.#deps.engine.containers.inspect(last.id)
        }
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
          : failureOf(state)
    this.#wanted = 'stopped'
    await this.#deps.forwarder.close(this.entry.id)
    if (state === undefined) {
      this.entry.containerId = null
      this.entry.view.container_id = null
    }
    await this.#update({
      status: failure === null ? 'stopped' : 'failed',
      failure,
      stopped_at: timestamp(state?.finishedAt),
      internal_url: null,
    })
    await this.#deps.store.spools.seal(this.entry.id)
    this.#deps.log.warn(
      { event: 'relic.ended', relic_id: this.entry.id, failure: failure?.code },
      'a relic ended by itself',
    )
  }

  async #probeRegularly(signal: AbortSignal): Promise<void> {
    const path = this.#request.health_check_endpoint
    if (path === null) return
    const over = AbortSignal.any([signal, this.#detach.signal])
    while (!over.aborted) {
      await sleep(PROBE_INTERVAL_MS, undefined, { signal: over, ref: false }).catch(() => {})
      if (over.aborted || this.#door === undefined) continue
      const probe = await this.#deps.poller.probe(this.#door, path, over)
      if (!over.aborted) await this.#note(probe)
    }
  }

  /** Adds a probe, and lets it decide between healthy and unhealthy. */
  async #note(probe: Probe): Promise<void> {
    this.#probes.add(probe)
    const { status } = this.entry.view
    if (probe.healthy && status === 'unhealthy') await this.#update({ status: 'healthy' })
    if (this.#probes.isFailing && status === 'healthy') await this.#update({ status: 'unhealthy' })
  }

  /** Ends the process where one runs, and waits for the rest of its output. */
  async #halt(graceSeconds: number): Promise<void> {
    this.#wanted = 'stopped'
    await this.#deps.forwarder.close(this.entry.id)
    const { containerId } = this.entry
    if (this.#process !== undefined) await this.#process.halt(graceSeconds)
    else if (containerId !== null) await this.#deps.engine.containers.kill(containerId)
  }

  /** A start that failed leaves no container: only the record of why. */
  async #undo(error: unknown, overdue: boolean): Promise<AppError> {
    this.#wanted = 'stopped'
    await this.#deps.forwarder.close(this.entry.id)
    const { containerId } = this.entry
    // Killed first: only then is what it wrote complete.
    if (containerId !== null) await this.#deps.engine.containers.kill(containerId).catch(() => false)
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
    await this.#update({ status: 'failed', failure, container_id: null, stopped_at: timestamp(), internal_url: null })
    await this.#deps.store.spools.seal(this.entry.id)
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
    await this.#process?.drained()
    return startProblem({
      error,
      overdue,
      relicId: this.entry.id,
      request: this.#request,
      lastProbe: this.#probes.last,
      logsTail: await this.#deps.logs.lastLines(this.entry.id, TAIL_LINES),
    })
  }

  async #update(change: Partial<Relic> & { status: RelicStatus }, rowStatus: string = change.status): Promise<void> {
    const told = this.entry.view.status !== change.status
    Object.assign(this.entry.view, change)
    this.entry.status = rowStatus
    await this.#deps.store.relics.update(this.entry)
    if (told) this.#spool?.state({ status: change.status, at: timestamp() })
  }

  #containerId(): string {
    if (this.entry.containerId === null) throw new AppError('conflict', `Relic "${this.entry.id}" has no container`)
    return this.entry.containerId
  }
}
