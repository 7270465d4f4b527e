/** What a caller may expect of the service after each call: small, and without any of its mechanics. */
import { SLOTS } from './world.ts'

/** Sessions are few, so that sequences meet in them. */
export const SESSIONS = ['a', 'b'].map((name) => `model-${process.pid}-${name}`)
export const WORKERS = ['w0', 'w1', 'w2'] as const
export type WorkerName = (typeof WORKERS)[number]
export const RELICS = ['r0', 'r1'] as const

/** `active` stands for queued, preparing and running: whose turn it is, is the queue's own to say. */
export interface Tool {
  id: string
  session: string
  outcome: string
  /** Its ended container is on the engine. */
  kept: boolean
}

export interface Relic {
  id: string
  session: string
  name: string
  status: 'healthy' | 'stopped' | 'failed'
  restarts: number
  hasContainer: boolean
}

export interface Worker {
  name: WorkerName
  status: 'running' | 'paused' | 'stopped' | 'completed' | 'failed'
  refreshes: number
  /** Ends by itself each time that it is started. */
  brief: boolean
  hasContainer: boolean
  /** The service holds on to it: it can be restarted. */
  isHeld: boolean
  execs: Exec[]
}

export interface Exec {
  id: string
  outcome: string
}

/** A call that was made with an idempotency key, and what it was answered. */
export interface KeyedCall {
  path: string
  body: object
  status: number
  idField: 'execution_id' | 'relic_id' | 'worker_id'
  /** Undefined where the call failed. */
  id: string | undefined
}

/** All that can be seen from outside, in a form that two of can be compared. */
export interface Snapshot {
  sessions: Record<string, string>
  tools: Record<string, string>
  relics: Record<string, string>
  workers: Record<string, string>
  execs: Record<string, string>
  running: number
  containers: readonly string[]
  networks: readonly string[]
  volumes: readonly string[]
}

export class Model {
  /** Those that are listed, and whether each has a network. */
  readonly sessions = new Map<string, { network: boolean }>()
  readonly tools = new Map<string, Tool>()
  readonly relics = new Map<string, Relic>()
  readonly deletedRelics: string[] = []
  readonly workers = new Map<WorkerName, Worker>()
  readonly deletedWorkers = new Set<WorkerName>()
  readonly keys = new Map<string, KeyedCall>()
  /** `session/name`, or `worker name`. */
  readonly volumes = new Set<string>()
  readonly orphans = new Set<string>()

  get active(): Tool[] {
    return [...this.tools.values()].filter(({ outcome }) => outcome === 'active')
  }

  get ended(): Tool[] {
    return [...this.tools.values()].filter(({ outcome }) => outcome !== 'active')
  }

  touch(session: string): { network: boolean } {
    const known = this.sessions.get(session) ?? { network: false }
    this.sessions.set(session, known)
    return known
  }

  /** A relic of that name that others of the session would meet. */
  twinOf(session: string, name: string, exceptId?: string): Relic | undefined {
    return [...this.relics.values()].find(
      (relic) =>
        relic.session === session && relic.name === name && relic.id !== exceptId && relic.status === 'healthy',
    )
  }

  /** The commands of a worker end with its container's process. */
  endExecs(worker: Worker): void {
    for (const exec of worker.execs) if (exec.outcome === 'running') exec.outcome = 'failed'
  }

  forgetWorker(name: WorkerName): void {
    this.workers.delete(name)
    this.volumes.delete(`worker ${name}`)
    this.deletedWorkers.add(name)
  }

  forgetSession(session: string): void {
    this.sessions.delete(session)
    for (const tool of this.tools.values()) {
      if (tool.session !== session) continue
      tool.kept = false
      if (tool.outcome === 'active') tool.outcome = 'cancelled'
    }
    for (const relic of this.relics.values()) {
      if (relic.session !== session) continue
      this.relics.delete(relic.id)
      this.deletedRelics.push(relic.id)
    }
    for (const { name } of [...this.workers.values()]) if (sessionOf(name) === session) this.forgetWorker(name)
    for (const volume of [...this.volumes]) if (volume.startsWith(`${session}/`)) this.volumes.delete(volume)
  }

  /** The containers of a session that are surely there. */
  containersIn(session: string): number {
    const tools = [...this.tools.values()].filter((tool) => tool.session === session && tool.kept)
    const relics = [...this.relics.values()].filter((relic) => relic.session === session && relic.hasContainer)
    const workers = [...this.workers.values()].filter(
      (worker) => sessionOf(worker.name) === session && worker.hasContainer,
    )
    return tools.length + relics.length + workers.length
  }

  snapshot(): Snapshot {
    const relics = [...this.relics.values()]
    const workers = [...this.workers.values()]
    const isLive = ({ status }: Worker) => status === 'running' || status === 'paused'
    return {
      sessions: Object.fromEntries(
        [...this.sessions].map(([session, { network }]) => {
          const tools = [...this.tools.values()].filter((tool) => tool.session === session)
          const own = workers.filter(({ name }) => sessionOf(name) === session)
          return [
            session,
            `tools ${tools.filter(({ outcome }) => outcome === 'active').length}/${tools.length}, workers ${own.length}, ${network ? 'network' : 'no network'}`,
          ]
        }),
      ),
      tools: Object.fromEntries(
        [...this.tools.values()].map(({ id, session, outcome }) => [id, `${session} ${outcome}`]),
      ),
      relics: Object.fromEntries(
        relics.map(({ id, session, name, status, restarts }) => [id, `${session} ${name} ${status} ${restarts}`]),
      ),
      workers: Object.fromEntries(workers.map(({ name, status, refreshes }) => [name, `${status} ${refreshes}`])),
      execs: Object.fromEntries(workers.flatMap(({ execs }) => execs.map(({ id, outcome }) => [id, outcome]))),
      running: workers.filter(isLive).length,
      containers: [
        ...Array.from({ length: Math.min(SLOTS, this.active.length) }, () => 'tool running'),
        ...[...this.tools.values()].filter(({ kept }) => kept).map(({ id }) => `tool ${id} exited`),
        ...relics
          .filter(({ hasContainer }) => hasContainer)
          .map(({ id, status }) => `relic ${id} ${status === 'healthy' ? 'running' : 'exited'}`),
        ...workers
          .filter(({ hasContainer }) => hasContainer)
          .map(
            ({ name, status }) => `worker ${name} ${status === 'running' || status === 'paused' ? status : 'exited'}`,
          ),
        ...[...this.orphans].map((id) => `orphan ${id} created`),
      ].toSorted(),
      networks: [...this.sessions]
        .filter(([, { network }]) => network)
        .map(([session]) => session)
        .toSorted(),
      volumes: [...this.volumes].toSorted(),
    }
  }
}

/** Each worker has its place: in no session, in one on the internal bridge, in one on its network. */
export function sessionOf(name: WorkerName): string | undefined {
  return { w0: undefined, w1: SESSIONS[0], w2: SESSIONS[1] }[name]
}

export function isOnSessionNetwork(name: WorkerName): boolean {
  return name === 'w2'
}
