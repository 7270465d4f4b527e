import { ANYONE, type Caller, type CallerLimits, type Making, type View } from '../domain/caller.ts'
import type { Page } from '../domain/common.ts'
import { timestamp } from '../domain/common.ts'
import type { RefreshWorker, Snapshot, Worker, WorkerCapacity } from '../domain/worker.ts'
import type { StartWorker, Workspace } from '../domain/worker-spec.ts'
import type { ContainerState, EngineInfo } from '../engine/engine.ts'
import { AppError, unknownResource } from '../errors.ts'
import { profileFor } from '../policy/caller-profile.ts'
import { type CredentialSets, credentialsFor } from '../policy/credentials.ts'
import { requireWithin } from '../policy/limits.ts'
import { type Profiles, requireNetwork, requireOpenFiles, requireRoot } from '../policy/profiles.ts'
import { requireOwnVariables } from '../policy/worker-environment.ts'
import { memoryBytes, WORKSPACE_FOLDER } from '../policy/worker-policy.ts'
import { requireOwned } from '../store/ownership.ts'
import type { ColdStarts } from './cold-starts.ts'
import { requireCallerLabels } from './docker-manager.ts'
import { forgetCommands } from './exec-records.ts'
import { requireGpu } from './gpu.ts'
import { requireCores, requireMemory } from './host-limits.ts'
import { KeyedTurns } from './keyed-turns.ts'
import { newId } from './names.ts'
import { startedOrThrow } from './outcome.ts'
import type { SessionGate } from './session-gate.ts'
import type { NameBearer, SessionNames } from './session-names.ts'
import type { Place, SessionQuotas, SessionUse } from './session-quotas.ts'
import { newNonce, type WorkerDecision } from './worker-blueprint.ts'
import { capacityOf, requireCapacity, type WorkerLimits } from './worker-capacity.ts'
import { WorkerLife, type WorkerLifeDeps } from './worker-life.ts'
import { DELETED, isRebuilt, LIVE, type WorkerEntry } from './worker-record.ts'
import { findSnapshot, takeSnapshot } from './worker-snapshot.ts'
import { claimWorkspace, requireApart } from './worker-workspace.ts'

export interface WorkerManagerOptions extends WorkerLifeDeps {
  engineInfo: EngineInfo
  profiles: Profiles
  credentialSets: CredentialSets
  limits: WorkerLimits
  gate: SessionGate
  quotas: SessionQuotas
  names: SessionNames
  coldStarts: ColdStarts
}

interface ListQuery {
  view?: View | undefined
  session_id?: string | undefined
  status?: string | undefined
  limit?: number | undefined
  cursor?: string | undefined
}

const RESTART_GRACE_SECONDS = 30
const DELETE_GRACE_SECONDS = 30

/** Workers by the names that callers give them: starts, tells, stops, refreshes and removes them. */
export class WorkerManager {
  readonly #options: WorkerManagerOptions
  /** Every worker that is known, by its worker_id; gone once it is deleted or its start failed. */
  readonly #lives = new Map<string, WorkerLife>()
  readonly #turns = new KeyedTurns()
  /** Until the one in whose place it comes is gone, whose volumes it takes over. */
  readonly #successions = new WeakMap<WorkerLife, Promise<void>>()
  /** Those that are being started again: they count as running before they do. */
  readonly #returning = new Set<WorkerLife>()

  constructor(options: WorkerManagerOptions) {
    this.#options = options
  }

  /** Starts a worker and answers when it is ready. A live one of that name is a `conflict`, a stale one is replaced. */
  async start(request: StartWorker, { id = newId('worker'), caller = ANYONE }: Making = {}): Promise<Worker> {
    return this.#checked(request, { id, caller }, () =>
      this.#turns.take(request.worker_id, () => this.#start(request, { id, caller })),
    )
  }

  /** A worker that runs: the one there is, started again where it had stopped, or a new one. Repeating it is harmless. */
  async ensure(
    request: StartWorker,
    { caller = ANYONE }: Pick<Making, 'caller'> = {},
  ): Promise<{ worker: Worker; created: boolean }> {
    return this.#turns.take(request.worker_id, async () => {
      const life = this.#lives.get(request.worker_id)
      requireMine(caller, life?.entry)
      if (life?.entry.view.status === 'running' && !life.isRemoved) return { worker: life.entry.view, created: false }
      // What was asked for is lost where it was rebuilt: it is started as it is asked for now.
      if (life !== undefined && (LIVE.has(life.entry.view.status) || !isRebuilt(life.entry))) {
        return {
          worker: await this.#withRoom(life, caller, () => life.resumeOrStart()),
          created: false,
        }
      }
      const making = { id: newId('worker'), caller }
      return { worker: await this.#checked(request, making, () => this.#start(request, making)), created: true }
    })
  }

  /** The worker of an earlier start, by the id of that, or why it did not start; undefined where none was. */
  async started(id: string): Promise<Worker | undefined> {
    const kept = [...this.#lives.values()].find(({ entry }) => entry.id === id)?.entry
    const view = (kept ?? (await this.#options.store.workers.get(id)))?.view
    return view && startedOrThrow(view, view.ready_at !== null, `/containers/worker/${view.worker_id}`)
  }

  /** `caller` as everywhere here: the name may be another's since it was looked whose it is. */
  async get(workerId: string, caller: Caller = ANYONE): Promise<Worker> {
    return (await this.#entry(workerId, caller)).view
  }

  /** Newest first, with how many of them run and what all workers may use. */
  async list(query: ListQuery): Promise<Page<Worker> & { running: number; capacity: WorkerCapacity }> {
    const page = await this.#options.store.workers.list({ ...query, exceptStatus: DELETED })
    const { view, session_id } = query
    const inSession = ({ entry }: WorkerLife) =>
      (session_id === undefined || entry.sessionId === session_id) &&
      (view === undefined || (entry.owner === view.owner && entry.sessionId === (view.session ?? entry.sessionId)))
    return { ...page, running: this.#live().filter(inSession).length, capacity: this.capacity() }
  }

  capacity(): WorkerCapacity {
    const running = this.#live().map(({ request }) => request)
    return capacityOf(running, this.#options.engineInfo, this.#options.limits)
  }

  /** Stops a worker and keeps its container; one that does not run stays as it is. */
  async stop(workerId: string, graceSeconds: number, caller: Caller = ANYONE): Promise<Worker> {
    const life = this.#lives.get(workerId)
    requireMine(caller, life?.entry)
    return life?.stop(graceSeconds) ?? this.get(workerId, caller)
  }

  restart(workerId: string, caller: Caller = ANYONE): Promise<Worker> {
    return this.#withLife(workerId, caller, (life) =>
      this.#withRoom(life, caller, () => this.#options.coldStarts.during(() => life.restart(RESTART_GRACE_SECONDS))),
    )
  }

  refresh(workerId: string, options: RefreshWorker, caller: Caller = ANYONE): Promise<Worker> {
    return this.#withLife(workerId, caller, (life) => this.#withRoom(life, caller, () => life.refresh(options)))
  }

  pause(workerId: string, caller: Caller = ANYONE): Promise<Worker> {
    return this.#withLife(workerId, caller, (life) => life.pause())
  }

  resume(workerId: string, caller: Caller = ANYONE): Promise<Worker> {
    return this.#withLife(workerId, caller, (life) => life.resume())
  }

  /** Makes an image of a worker's root file system, without its workspace and other mounts. */
  snapshot(workerId: string, name: string, caller: Caller = ANYONE): Promise<Snapshot> {
    return this.#withLife(workerId, caller, (life) => {
      this.#options.gate.admit(life.entry.sessionId || undefined)
      return takeSnapshot(this.#options, life.entry, name)
    })
  }

  /** A snapshot that was made before; undefined where there is none of that name. */
  snapshotOf(workerId: string, name: string): Promise<Snapshot | undefined> {
    return findSnapshot(this.#options, workerId, name)
  }

  /** Removes a worker with its container, logs and own volumes; one that was removed before stays removed. */
  async remove(
    workerId: string,
    { graceSeconds = DELETE_GRACE_SECONDS, caller = ANYONE }: { graceSeconds?: number; caller?: Caller } = {},
  ): Promise<void> {
    const { engine, store, volumes } = this.#options
    const life = this.#lives.get(workerId)
    requireMine(caller, life?.entry)
    if (life !== undefined) {
      try {
        await life.remove(graceSeconds, { after: this.#successions.get(life) })
      } finally {
        if (life.entry.status === DELETED && this.#lives.get(workerId) === life) this.#lives.delete(workerId)
      }
    } else {
      const entry = await store.workers.find(workerId, DELETED)
      if (entry === undefined) {
        if ((await store.workers.find(workerId)) !== undefined) return
        throw unknownResource('worker', workerId)
      }
      requireMine(caller, entry)
      for (const name of await volumes.workerVolumes(workerId)) await engine.volumes.remove(name)
      await this.#forget(entry)
    }
  }

  /** The life of a worker that has a container, for what acts inside it. */
  async life(workerId: string, caller: Caller = ANYONE): Promise<WorkerLife> {
    const life = this.#lives.get(workerId)
    requireMine(caller, life?.entry)
    if (life !== undefined) return life
    await this.#entry(workerId, caller)
    throw new AppError('conflict', `Worker "${workerId}" has no container`, {
      hint: `Start it with POST /containers/worker/${workerId}/ensure.`,
    })
  }

  /** Id under which a worker's output and records are kept. */
  async recordId(workerId: string, caller: Caller = ANYONE): Promise<string> {
    return (await this.#entry(workerId, caller)).id
  }

  /** Workers of a session that have a container, or are getting one. */
  liveIn(sessionId: string): string[] {
    return [...this.#lives.values()].filter(({ entry }) => entry.sessionId === sessionId).map(({ entry }) => entry.name)
  }

  /** What workers have of the quotas of their sessions and owners. */
  useWhere(matches: (place: Place) => boolean): SessionUse {
    const mine = ({ entry }: WorkerLife) => matches(entry)
    return {
      runs: 0,
      containers: [...this.#lives.values()].filter(mine).length,
      memory_mb: this.#live()
        .filter(mine)
        .reduce((sum, { request }) => sum + megabytes(request), 0),
    }
  }

  /** Workers of a session that can be found by name, or are about to. */
  namesIn(sessionId: string): NameBearer[] {
    const entries = this.#live().map(({ entry }) => entry)
    return entries.filter((entry) => entry.sessionId === sessionId && isFoundByName(entry)).map(bearerOf)
  }

  /** True while a command runs in a worker of a session, or somebody is connected to a port of it. */
  isUsedIn(sessionId: string): boolean {
    return [...this.#lives.values()].some(
      ({ entry, commands }) =>
        entry.sessionId === sessionId && (commands.busy || this.#options.forwarder.isUsed(entry.id)),
    )
  }

  /** True where a worker has this container, or is being given it. */
  claims(workerId: string, containerId: string, nonce: string): boolean {
    return this.#lives.get(workerId)?.claims(containerId, nonce) ?? false
  }

  /** True where a record, by its id, is looked after. */
  isLive(id: string): boolean {
    return [...this.#lives.values()].some(({ entry }) => entry.id === id)
  }

  /** True where callers see a worker of this name. */
  async isKnown(workerId: string): Promise<boolean> {
    return this.#lives.has(workerId) || (await this.#options.store.workers.find(workerId, DELETED)) !== undefined
  }

  /** True while there is a worker with a container, running or not. */
  get any(): boolean {
    return this.#lives.size > 0
  }

  get count(): number {
    return this.#live().length
  }

  /** Those that run, for what looks after them. */
  running(): WorkerLife[] {
    return [...this.#lives.values()].filter(({ entry }) => entry.view.status === 'running')
  }

  /** Takes over the container of a worker that an earlier process started. */
  async adopt(entry: WorkerEntry, state: ContainerState): Promise<void> {
    const { request } = entry
    if (request === null) throw new Error(`Worker ${entry.name} was stored without its request`)
    try {
      await this.#keep(entry, request).adopt(state)
    } catch (error) {
      // Nobody would look after it: the reconciler takes it over another time.
      this.#lives.delete(entry.name)
      throw error
    }
  }

  /** Leaves every worker running for the next start of the service. */
  detach(): void {
    for (const life of this.#lives.values()) life.detach()
  }

  async #start(request: StartWorker, { id, caller }: Required<Making>): Promise<Worker> {
    const { gate, quotas, store } = this.#options
    const { worker_id, session_id } = request
    const stale = this.#lives.get(worker_id)
    const former = stale?.entry ?? (await store.workers.find(worker_id, DELETED))
    requireMine(caller, former)
    if (stale !== undefined && LIVE.has(stale.entry.view.status)) {
      throw new AppError('conflict', `Worker "${worker_id}" is ${stale.entry.view.status} already`, {
        instance: `/containers/worker/${worker_id}`,
        hint: 'Use it, stop it first, or call ensure, which answers the one there is.',
      })
    }
    gate.admit(session_id)
    requireInSession(caller, session_id)
    const owner = session_id === undefined ? caller.owner : await store.sessions.ownerFor(session_id, caller)
    const place = { sessionId: session_id ?? '', owner }
    const checkQuotas = await quotas.checkFor(place, caller.limits)
    requireCapacity(request, this.capacity())
    const replaces = stale !== undefined && stale.entry.sessionId === place.sessionId
    checkQuotas({ runs: 0, containers: replaces ? 0 : 1, memory_mb: megabytes(request) })
    const entry: WorkerEntry = {
      id,
      ...place,
      name: worker_id,
      status: 'preparing',
      live: true,
      containerId: null,
      nonce: newNonce(),
      request,
      view: preparingWorker(request),
    }
    if (isFoundByName(entry)) this.#options.names.requireFree(bearerOf(entry))
    const life = this.#keep(entry, request, caller.limits)
    const succession = Promise.withResolvers<void>()
    this.#successions.set(life, succession.promise)
    try {
      if (session_id !== undefined) await store.sessions.touch(session_id, caller)
      await store.workers.insert(entry)
      // Its workspace and other volumes are the new one's.
      if (stale !== undefined) await stale.remove(0, { keepVolumes: true })
      else if (former !== undefined) await this.#forget(former)
    } catch (error) {
      // The stale one is what there is, as before.
      if (stale !== undefined && !stale.isRemoved) this.#lives.set(worker_id, stale)
      else this.#lives.delete(worker_id)
      await store.workers.remove(id)
      throw error
    } finally {
      succession.resolve()
    }
    try {
      return await this.#options.coldStarts.during(() => life.start())
    } finally {
      if (!entry.live && this.#lives.get(worker_id) === life) this.#lives.delete(worker_id)
    }
  }

  async #forget(entry: WorkerEntry): Promise<void> {
    const { store } = this.#options
    await store.workers.update({ ...entry, status: DELETED, live: false, request: null })
    await store.spools.remove(entry.id)
    await forgetCommands(store, entry.id)
  }

  #keep(entry: WorkerEntry, request: StartWorker, limits?: CallerLimits): WorkerLife {
    const life = new WorkerLife(this.#options, entry, request, () => this.#decide(request, limits))
    this.#lives.set(entry.name, life)
    return life
  }

  /**
   * Starts one where policy and the world allow it: refused before anything is made otherwise. What it takes
   * of the host is claimed for it, and released where no worker has come of it.
   */
  async #checked(
    request: StartWorker,
    { id, caller }: Required<Making>,
    start: () => Promise<Worker>,
  ): Promise<Worker> {
    this.#options.gate.admit(request.session_id)
    const decision = this.#decide(request, caller.limits)
    const volumes = this.#options.volumes.within(decision.profile.hostRoots)
    const instead = this.#lives.get(request.worker_id)?.entry.id
    try {
      await volumes.claim(id, decision.volumes, { instead })
      await claimWorkspace(id, request.workspace, { ...this.#options, volumes }, { instead })
      await requireApart(request.workspace, decision.volumes, volumes)
      return await start()
    } catch (error) {
      if (!this.isLive(id)) volumes.release(id)
      throw error
    }
  }

  #decide(request: StartWorker, limits?: CallerLimits): WorkerDecision {
    const { credentialSets, engineInfo, environmentPrefixes, images, profiles, volumes } = this.#options
    const profile = profileFor(profiles, 'worker', request.profile, limits)
    requireNetwork(profile, request.network)
    requireRoot(profile, request.readonly_root)
    requireOpenFiles(profile, request.nofile.hard)
    requireCallerLabels(request.labels)
    requireOwnVariables(request.environment, environmentPrefixes)
    images.requireAllowed(request, profile)
    requireCores(engineInfo, request.cpu_limit, 'cpu_limit')
    requireMemory(engineInfo, memoryBytes(request))
    requireWithin(profile, {
      memoryMegabytes: memoryBytes(request) / 1024 ** 2,
      cpus: request.cpu_limit,
      pids: request.pids_limit,
    })
    if (request.gpu !== undefined) requireGpu(engineInfo, profile)
    return {
      profile,
      volumes: volumes.within(profile.hostRoots).decide(request.volumes),
      credentials: credentialsFor(credentialSets, request.credentials, profile.credentials),
    }
  }

  /** Starts one again where the operator's bounds have room for it and its name is free, which it takes from now on. */
  async #withRoom<T>(life: WorkerLife, { limits }: Caller, work: () => Promise<T>): Promise<T> {
    const { coldStarts, gate, names, quotas } = this.#options
    const { session_id } = life.request
    gate.admit(session_id)
    const checkQuotas = await quotas.checkFor(life.entry, limits)
    if (!this.#live().includes(life)) {
      requireCapacity(life.request, this.capacity())
      checkQuotas({ runs: 0, containers: 0, memory_mb: megabytes(life.request) })
    }
    const release = isFoundByName(life.entry) ? names.hold(bearerOf(life.entry)) : () => {}
    this.#returning.add(life)
    try {
      return await coldStarts.during(work)
    } finally {
      this.#returning.delete(life)
      release()
    }
  }

  async #withLife<T>(workerId: string, caller: Caller, work: (life: WorkerLife) => Promise<T>): Promise<T> {
    return work(await this.life(workerId, caller))
  }

  #live(): WorkerLife[] {
    return [...this.#lives.values()].filter((life) => LIVE.has(life.entry.view.status) || this.#returning.has(life))
  }

  async #entry(workerId: string, caller: Caller): Promise<WorkerEntry> {
    const entry = this.#lives.get(workerId)?.entry ?? (await this.#options.store.workers.find(workerId, DELETED))
    if (entry === undefined || entry.status === DELETED) throw unknownResource('worker', workerId)
    requireMine(caller, entry)
    return entry
  }
}

/** The name of another's worker is taken, and told as if there were none. */
function requireMine(caller: Caller, entry: WorkerEntry | undefined): void {
  if (entry === undefined || entry.status === DELETED) return
  requireOwned(caller, 'worker', entry.name, { owner: entry.owner, sessionId: entry.sessionId || null })
}

/** A session token makes nothing beside its session: nothing would end it, and no quota of the session hold it. */
function requireInSession({ session }: Caller, sessionId: string | undefined): void {
  if (session === undefined || sessionId !== undefined) return
  const message = `this token is for one session: say "${session}"`
  throw new AppError('validation_failed', `session_id: ${message}`, { errors: [{ path: 'session_id', message }] })
}

/** True on a session's network: the bridge that workers share gives no names of callers. */
function isFoundByName({ view }: WorkerEntry): boolean {
  return view.network.mode === 'session' || view.network.mode === 'egress'
}

function bearerOf({ sessionId, name, containerId, view }: WorkerEntry): NameBearer {
  const { container_name: containerName } = view
  return { sessionId, name, kind: 'worker', path: `/containers/worker/${name}`, containerName, containerId }
}

function megabytes(request: StartWorker): number {
  return Math.ceil(memoryBytes(request) / 1024 ** 2)
}

/** A worker before anything is made. */
export function preparingWorker(request: StartWorker): Worker {
  return {
    worker_id: request.worker_id,
    session_id: request.session_id ?? null,
    task_id: request.task_id ?? null,
    status: 'preparing',
    failure: null,
    exit_code: null,
    exit_meaning: null,
    image: request.image,
    image_id: null,
    container_id: null,
    container_name: null,
    workspace: { ...workspaceView(request.workspace), path: WORKSPACE_FOLDER },
    user: null,
    home: null,
    network: { mode: request.network, id: null, name: null },
    ports: {},
    memory_limit_bytes: memoryBytes(request),
    cpu_limit: request.cpu_limit,
    pids_limit: request.pids_limit,
    credentials: request.credentials,
    restarts: 0,
    refreshes: 0,
    created_at: timestamp(),
    started_at: null,
    ready_at: null,
    stopped_at: null,
    refreshed_at: null,
    labels: request.labels,
  }
}

function workspaceView(workspace: Workspace | undefined): Pick<Worker['workspace'], 'kind' | 'source'> {
  if (workspace === undefined) return { kind: 'none', source: null }
  if ('host_path' in workspace) return { kind: 'host_path', source: workspace.host_path }
  if ('volume' in workspace) return { kind: 'volume', source: workspace.volume }
  return { kind: 'git_worktree', source: workspace.git_worktree.path }
}
