import { ANYONE, type Caller, type CallerLimits, type Making, type View } from '../domain/caller.ts'
import type { Page } from '../domain/common.ts'
import type { RefreshWorker, Snapshot, Worker, WorkerCapacity } from '../domain/worker.ts'
import type { StartWorker } from '../domain/worker-spec.ts'
import type { ContainerState } from '../engine/engine.ts'
import { AppError, unknownResource } from '../errors.ts'
import { requireOwned } from '../store/ownership.ts'
import type { ColdStarts } from './cold-starts.ts'
import { forgetCommands } from './exec-records.ts'
import { KeyedTurns } from './keyed-turns.ts'
import { newId } from './names.ts'
import { startedOrThrow } from './outcome.ts'
import { WorkerAdmission, type WorkerAdmissionOptions } from './worker-admission.ts'
import { newNonce } from './worker-blueprint.ts'
import type { WorkerLimits } from './worker-capacity.ts'
import { WorkerLife } from './worker-life.ts'
import { WorkerLives } from './worker-lives.ts'
import { DELETED, isRebuilt, LIVE, preparingWorker, type WorkerEntry } from './worker-record.ts'
import { findSnapshot, takeSnapshot } from './worker-snapshot.ts'

export interface WorkerManagerOptions extends WorkerAdmissionOptions {
  limits: WorkerLimits
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
  /** What there is of them, for all who ask. */
  readonly lives: WorkerLives
  readonly #admission: WorkerAdmission
  readonly #turns = new KeyedTurns()
  /** Until the one in whose place it comes is gone, whose volumes it takes over. */
  readonly #successions = new WeakMap<WorkerLife, Promise<void>>()

  constructor(options: WorkerManagerOptions) {
    this.#options = options
    this.lives = new WorkerLives(options)
    this.#admission = new WorkerAdmission(options, this.lives)
  }

  /** Starts a worker and answers when it is ready. A live one of that name is a `conflict`, a stale one is replaced. */
  async start(request: StartWorker, { id = newId('worker'), caller = ANYONE }: Making = {}): Promise<Worker> {
    return this.#admission.checked(request, { id, caller }, () =>
      this.#turns.take(request.worker_id, () => this.#start(request, { id, caller })),
    )
  }

  /** A worker that runs: the one there is, started again where it had stopped, or a new one. Repeating it is harmless. */
  async ensure(
    request: StartWorker,
    { caller = ANYONE }: Pick<Making, 'caller'> = {},
  ): Promise<{ worker: Worker; created: boolean }> {
    return this.#turns.take(request.worker_id, async () => {
      const life = this.lives.get(request.worker_id)
      requireMine(caller, life?.entry)
      if (life?.entry.view.status === 'running' && !life.isRemoved) return { worker: life.entry.view, created: false }
      // What was asked for is lost where it was rebuilt: it is started as it is asked for now.
      if (life !== undefined && (LIVE.has(life.entry.view.status) || !isRebuilt(life.entry))) {
        return {
          worker: await this.#again(life, caller, () => life.resumeOrStart()),
          created: false,
        }
      }
      const making = { id: newId('worker'), caller }
      const worker = await this.#admission.checked(request, making, () => this.#start(request, making))
      return { worker, created: true }
    })
  }

  /** The worker of an earlier start, by the id of that, or why it did not start; undefined where none was. */
  async started(id: string): Promise<Worker | undefined> {
    const kept = this.lives.ofRecord(id)?.entry
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
    return { ...page, running: this.lives.countIn(query), capacity: this.lives.capacity() }
  }

  /** Stops a worker and keeps its container; one that does not run stays as it is. */
  async stop(workerId: string, graceSeconds: number, caller: Caller = ANYONE): Promise<Worker> {
    const life = this.lives.get(workerId)
    requireMine(caller, life?.entry)
    return life?.stop(graceSeconds) ?? this.get(workerId, caller)
  }

  restart(workerId: string, caller: Caller = ANYONE): Promise<Worker> {
    return this.#withLife(workerId, caller, (life) =>
      this.#again(life, caller, () => life.restart(RESTART_GRACE_SECONDS)),
    )
  }

  refresh(workerId: string, options: RefreshWorker, caller: Caller = ANYONE): Promise<Worker> {
    return this.#withLife(workerId, caller, (life) => this.#again(life, caller, () => life.refresh(options)))
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
    const life = this.lives.get(workerId)
    requireMine(caller, life?.entry)
    if (life !== undefined) {
      try {
        await life.remove(graceSeconds, { after: this.#successions.get(life) })
      } finally {
        if (life.entry.status === DELETED) this.lives.drop(life)
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
    const life = this.lives.get(workerId)
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

  /** True where callers see a worker of this name. */
  async isKnown(workerId: string): Promise<boolean> {
    return (
      this.lives.get(workerId) !== undefined ||
      (await this.#options.store.workers.find(workerId, DELETED)) !== undefined
    )
  }

  /** Takes over the container of a worker that an earlier process started. */
  async adopt(entry: WorkerEntry, state: ContainerState): Promise<void> {
    const { request } = entry
    if (request === null) throw new Error(`Worker ${entry.name} was stored without its request`)
    const life = this.#keep(entry, request)
    try {
      await life.adopt(state)
    } catch (error) {
      // Nobody would look after it: the reconciler takes it over another time.
      this.lives.drop(life)
      throw error
    }
  }

  /** Leaves every worker running for the next start of the service. */
  detach(): void {
    this.lives.detach()
  }

  async #start(request: StartWorker, { id, caller }: Required<Making>): Promise<Worker> {
    const { gate, store } = this.#options
    const { worker_id, session_id } = request
    const stale = this.lives.get(worker_id)
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
    const requireRoom = await this.#admission.roomFor(place, caller.limits)
    requireRoom(request, stale !== undefined && stale.entry.sessionId === place.sessionId ? 0 : 1)
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
    this.#admission.requireName(entry)
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
      if (stale !== undefined && !stale.isRemoved) this.lives.keep(stale)
      else this.lives.drop(life)
      await store.workers.remove(id)
      throw error
    } finally {
      succession.resolve()
    }
    try {
      return await this.#options.coldStarts.during(() => life.start())
    } finally {
      if (!entry.live) this.lives.drop(life)
    }
  }

  async #forget(entry: WorkerEntry): Promise<void> {
    const { store } = this.#options
    await store.workers.update({ ...entry, status: DELETED, live: false, request: null })
    await store.spools.remove(entry.id)
    await forgetCommands(store, entry.id)
  }

  #keep(entry: WorkerEntry, request: StartWorker, limits?: CallerLimits): WorkerLife {
    const life = new WorkerLife(this.#options, entry, request, () => this.#admission.decide(request, limits))
    this.lives.keep(life)
    return life
  }

  #again<T>(life: WorkerLife, caller: Caller, work: () => Promise<T>): Promise<T> {
    return this.#admission.again(life, caller, () => this.#options.coldStarts.during(work))
  }

  async #withLife<T>(workerId: string, caller: Caller, work: (life: WorkerLife) => Promise<T>): Promise<T> {
    return work(await this.life(workerId, caller))
  }

  async #entry(workerId: string, caller: Caller): Promise<WorkerEntry> {
    const entry = this.lives.get(workerId)?.entry ?? (await this.#options.store.workers.find(workerId, DELETED))
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
