import type { View } from '../domain/caller.ts'
import type { WorkerCapacity } from '../domain/worker.ts'
import type { StartWorker } from '../domain/worker-spec.ts'
import type { EngineInfo } from '../engine/engine.ts'
import { memoryBytes } from '../policy/worker-policy.ts'
import type { PortForwarder } from './port-forwarder.ts'
import type { NameBearer, NameKeeper } from './session-names.ts'
import type { Place, SessionUse, SessionUser } from './session-quotas.ts'
import { capacityOf, type WorkerLimits } from './worker-capacity.ts'
import type { WorkerLife } from './worker-life.ts'
import { LIVE, type WorkerEntry } from './worker-record.ts'

export interface WorkerLivesOptions {
  engineInfo: EngineInfo
  limits: WorkerLimits
  forwarder: PortForwarder
}

/** Every worker that is known, running or not, by its worker_id; gone once it is deleted or its start failed. */
export class WorkerLives implements NameKeeper, SessionUser {
  readonly #options: WorkerLivesOptions
  readonly #lives = new Map<string, WorkerLife>()
  /** Those that are being started again: they count as running before they do. */
  readonly #returning = new Set<WorkerLife>()

  constructor(options: WorkerLivesOptions) {
    this.#options = options
  }

  get(workerId: string): WorkerLife | undefined {
    return this.#lives.get(workerId)
  }

  /** From now on it is what there is of its name. */
  keep(life: WorkerLife): void {
    this.#lives.set(life.entry.name, life)
  }

  /** Forgets one; another that has come in its place stays. */
  drop(life: WorkerLife): void {
    const { name } = life.entry
    if (this.#lives.get(name) === life) this.#lives.delete(name)
  }

  /** Counts one as running until the answered function is called. */
  hold(life: WorkerLife): () => void {
    this.#returning.add(life)
    return () => this.#returning.delete(life)
  }

  /** Leaves every worker running for the next start of the service. */
  detach(): void {
    for (const life of this.#lives.values()) life.detach()
  }

  /** True while there is a worker with a container, running or not. */
  get any(): boolean {
    return this.#lives.size > 0
  }

  /** How many run, or are about to. */
  get count(): number {
    return this.#live().length
  }

  /** How many of those that run are in a session, and seen by a caller. */
  countIn({ session_id, view }: { session_id?: string | undefined; view?: View | undefined }): number {
    return this.#live().filter(
      ({ entry }) =>
        (session_id === undefined || entry.sessionId === session_id) &&
        (view === undefined || (entry.owner === view.owner && entry.sessionId === (view.session ?? entry.sessionId))),
    ).length
  }

  /** True for one that runs, or is about to. */
  counts(life: WorkerLife): boolean {
    return this.#live().includes(life)
  }

  /** Those that run, for what looks after them. */
  running(): WorkerLife[] {
    return this.#all().filter(({ entry }) => entry.view.status === 'running')
  }

  /** What all that run may use together, of how much. */
  capacity(): WorkerCapacity {
    const running = this.#live().map(({ request }) => request)
    return capacityOf(running, this.#options.engineInfo, this.#options.limits)
  }

  /** Workers of a session that have a container, or are getting one. */
  liveIn(sessionId: string): string[] {
    return this.#all()
      .filter(({ entry }) => entry.sessionId === sessionId)
      .map(({ entry }) => entry.name)
  }

  /** What workers have of the quotas of their sessions and owners. */
  useWhere(matches: (place: Place) => boolean): SessionUse {
    const mine = ({ entry }: WorkerLife) => matches(entry)
    return {
      runs: 0,
      containers: this.#all().filter(mine).length,
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
    return this.#all().some(
      ({ entry, commands }) =>
        entry.sessionId === sessionId && (commands.busy || this.#options.forwarder.isUsed(entry.id)),
    )
  }

  /** True where a worker has this container, or is being given it. */
  claims(workerId: string, containerId: string, nonce: string): boolean {
    return this.#lives.get(workerId)?.claims(containerId, nonce) ?? false
  }

  /** The one of a record; undefined where nobody looks after that. */
  ofRecord(id: string): WorkerLife | undefined {
    return this.#all().find(({ entry }) => entry.id === id)
  }

  #all(): WorkerLife[] {
    return [...this.#lives.values()]
  }

  #live(): WorkerLife[] {
    return this.#all().filter((life) => LIVE.has(life.entry.view.status) || this.#returning.has(life))
  }
}

/** True on a session's network: the bridge that workers share gives no names of callers. */
export function isFoundByName({ view }: WorkerEntry): boolean {
  return view.network.mode === 'session' || view.network.mode === 'egress'
}

export function bearerOf({ sessionId, name, containerId, view }: WorkerEntry): NameBearer {
  const { container_name: containerName } = view
  return { sessionId, name, kind: 'worker', path: `/containers/worker/${name}`, containerName, containerId }
}

export function megabytes(request: StartWorker): number {
  return Math.ceil(memoryBytes(request) / 1024 ** 2)
}
