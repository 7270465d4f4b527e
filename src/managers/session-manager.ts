import { ANYONE, type Caller, type View } from '../domain/caller.ts'
import type { Page } from '../domain/common.ts'
import type { CleanupReport, RenewSession, Session, SessionSummary } from '../domain/session.ts'
import type { Engine } from '../engine/engine.ts'
import { messageOf, unknownResource } from '../errors.ts'
import { failpoint } from '../failpoints.ts'
import { ownedBy } from '../labels.ts'
import type { SessionRow } from '../store/sessions.ts'
import type { Store } from '../store/store.ts'
import type { DockerManager } from './docker-manager.ts'
import type { ImageManager } from './image-manager.ts'
import { InFlight } from './in-flight.ts'
import type { Log } from './log.ts'
import type { NetworkManager, SessionNetwork } from './network-manager.ts'
import type { RelicManager } from './relic-manager.ts'
import type { SessionGate } from './session-gate.ts'
import type { SessionQuotas } from './session-quotas.ts'
import type { StatsManager } from './stats-manager.ts'
import type { ToolManager } from './tool-manager.ts'
import type { WorkerManager } from './worker-manager.ts'

export interface SessionManagerOptions {
  engine: Engine
  store: Store
  docker: DockerManager
  networks: NetworkManager
  images: ImageManager
  tools: ToolManager
  relics: RelicManager
  workers: WorkerManager
  stats: StatsManager
  gate: SessionGate
  quotas: SessionQuotas
  log: Log
}

interface CleanupOptions {
  /** Whoever asks; the service itself where absent. */
  caller?: Caller
  force: boolean
  dryRun: boolean
  /** Why, for the event that tells its end. */
  reason?: 'cleanup' | 'ttl' | 'idle'
}

const STOP_GRACE_SECONDS = 10

/** Sessions: what belongs to each, and the one call that ends it all. */
export class SessionManager {
  readonly #options: SessionManagerOptions
  readonly #cleanups = new InFlight<CleanupReport>()

  constructor(options: SessionManagerOptions) {
    this.#options = options
  }

  /** By id. */
  async list(query: {
    limit?: number | undefined
    cursor?: string | undefined
    view?: View | undefined
  }): Promise<Page<SessionSummary>> {
    const { networks, store } = this.#options
    const [page, existing] = await Promise.all([store.sessions.list(query), networks.list()])
    const bySession = new Map(existing.map((network) => [network.sessionId, network]))
    const items = await Promise.all(page.items.map((row) => this.#summary(row, bySession.get(row.session_id))))
    return { ...page, items }
  }

  /** A session with its latest tools, its relics and what its containers use. */
  async get(sessionId: string): Promise<Session> {
    const { networks, relics, stats, store, tools, workers } = this.#options
    const row = await store.sessions.get(sessionId)
    if (row === undefined) throw unknownResource('session', sessionId)
    const mine = { session_id: sessionId, view: viewOfOwner(row) }
    const [network, toolPage, relicPage, workerPage, usage] = await Promise.all([
      networks.get(sessionId),
      tools.list(mine),
      relics.list({ ...mine, limit: 1000 }),
      workers.list({ ...mine, limit: 1000 }),
      stats.all({ session_id: sessionId }),
    ])
    return {
      ...this.#settings(row),
      network: networkView(network),
      tools: toolPage.items,
      relics: relicPage.items,
      workers: workerPage.items,
      usage: usage.totals,
    }
  }

  /** Begins a session where it is new, and answers whose it is. */
  async open(sessionId: string, caller: Caller): Promise<string | null> {
    const { gate, store } = this.#options
    gate.requireOpen(sessionId)
    await store.sessions.touch(sessionId, caller)
    return store.sessions.ownerFor(sessionId, caller)
  }

  /** Sets how long a session lasts from now on, and what it may have. */
  async renew(sessionId: string, settings: RenewSession, caller: Caller = ANYONE): Promise<SessionSummary> {
    const { gate, networks, store } = this.#options
    gate.requireOpen(sessionId)
    const row = await store.sessions.renew(sessionId, settings, caller)
    return this.#summary(row, await networks.get(sessionId))
  }

  /** Ends all that a session has. Repeating it is harmless; calls for one session at once share one cleanup. */
  cleanup(sessionId: string, options: CleanupOptions): Promise<CleanupReport> {
    if (options.dryRun) return this.#plan(sessionId)
    const { force, caller } = options
    const key = `${sessionId}\n${force}\n${caller?.owner ?? ''}`
    return this.#cleanups.share(key, () => this.#options.gate.closed(sessionId, () => this.#clean(sessionId, options)))
  }

  async #plan(sessionId: string): Promise<CleanupReport> {
    const { docker, engine, networks, store, tools } = this.#options
    const [containers, network, volumes] = await Promise.all([
      docker.list({ session: sessionId }),
      networks.get(sessionId),
      engine.volumes.list(ownedBy(store.instance, 'volume', sessionId)),
    ])
    return {
      containers_removed: containers.length,
      networks_removed: network === undefined ? 0 : 1,
      volumes_removed: volumes.length,
      tools_cancelled: tools.activeIn(sessionId).length,
      errors: [],
    }
  }

  async #clean(sessionId: string, { force, reason, caller = ANYONE }: CleanupOptions): Promise<CleanupReport> {
    const { docker, engine, images, log, networks, relics, store, tools, workers } = this.#options
    // It may have ended, and be another's now, since it was looked whose it is.
    await store.sessions.ownerFor(sessionId, caller)
    const report: CleanupReport = {
      containers_removed: 0,
      networks_removed: 0,
      volumes_removed: 0,
      tools_cancelled: 0,
      errors: [],
    }
    const attempt = async (resource: string, work: () => Promise<void>): Promise<void> => {
      await work().catch((error: unknown) => {
        report.errors.push({ resource, message: messageOf(error) })
      })
    }
    failpoint('session.ending')
    const began = performance.now()
    const grace = force ? 0 : STOP_GRACE_SECONDS
    const before = await docker.list({ session: sessionId })
    const cancelling = tools.activeIn(sessionId).map((id) =>
      attempt(`tool ${id}`, async () => {
        await tools.cancel(id, force ? undefined : grace)
        report.tools_cancelled += 1
      }),
    )
    const removing = relics.liveIn(sessionId).map((id) => attempt(`relic ${id}`, () => relics.remove(id, grace)))
    const leaving = workers.lives
      .liveIn(sessionId)
      .map((id) => attempt(`worker ${id}`, () => workers.remove(id, { graceSeconds: grace })))
    await Promise.all([...cancelling, ...removing, ...leaving])
    // Relics of which only the record is left, and containers that no manager watches any more.
    await attempt('records of relics', () => this.#forgetRelics(sessionId))
    await attempt('records of workers', () => this.#forgetWorkers(sessionId))
    const after = await docker.list({ session: sessionId })
    const gone = new Set([...before, ...after].map((container) => container.id))
    await Promise.all(
      [...gone].map((id) =>
        attempt(`container ${id}`, async () => {
          await docker.remove(id)
          report.containers_removed += 1
        }),
      ),
    )
    failpoint('session.emptied')
    await attempt('network', async () => {
      const network = await networks.get(sessionId)
      if (network !== undefined && (await networks.remove(network))) report.networks_removed += 1
    })
    await attempt('volumes', async () => {
      const volumes = await engine.volumes.list(ownedBy(store.instance, 'volume', sessionId))
      await Promise.all(
        volumes.map((volume) =>
          attempt(`volume ${volume.name}`, async () => {
            if (await engine.volumes.remove(volume.name)) report.volumes_removed += 1
          }),
        ),
      )
    })
    await attempt('built images', () => images.removeBuilt(sessionId))
    await attempt('session tokens', () => store.sessionTokens.removeOfSession(sessionId))
    // What is left is told, and keeps its session so that the call can be repeated.
    if (report.errors.length === 0) await store.sessions.remove(sessionId, reason)
    failpoint('session.ended')
    const { errors, ...counts } = report
    log.info(
      {
        event: 'session.cleaned',
        session_id: sessionId,
        ...counts,
        errors: errors.length,
        duration_ms: Math.round(performance.now() - began),
      },
      'session cleaned up',
    )
    return report
  }

  /** A session's row as callers see it. */
  #settings(row: SessionRow) {
    const { session_id, created_at, last_activity_at, ttl_seconds, idle_timeout_seconds, expires_at } = row
    const { quotas } = this.#options
    const bounds = { quotas: quotas.of(row), used: quotas.used(session_id) }
    return { session_id, created_at, last_activity_at, ttl_seconds, idle_timeout_seconds, expires_at, ...bounds }
  }

  async #forgetRelics(sessionId: string): Promise<void> {
    const { relics } = this.#options
    for (let cursor: string | undefined; ; ) {
      const page = await relics.list({ session_id: sessionId, limit: 1000, cursor })
      for (const relic of page.items) await relics.remove(relic.relic_id, 0)
      if (page.next_cursor === null) return
      cursor = page.next_cursor
    }
  }

  async #forgetWorkers(sessionId: string): Promise<void> {
    const { workers } = this.#options
    for (let cursor: string | undefined; ; ) {
      const page = await workers.list({ session_id: sessionId, limit: 1000, cursor })
      for (const worker of page.items) await workers.remove(worker.worker_id, { graceSeconds: 0 })
      if (page.next_cursor === null) return
      cursor = page.next_cursor
    }
  }

  async #summary(row: SessionRow, network: SessionNetwork | undefined): Promise<SessionSummary> {
    const { relics, store, tools, workers } = this.#options
    const session_id = row.session_id
    const mine = { session_id, view: viewOfOwner(row) }
    const [toolTotal, relicTotal, workerTotal] = await Promise.all([
      store.tools.count(mine),
      store.relics.count(mine),
      store.workers.count({ ...mine, exceptStatus: 'deleted' }),
    ])
    return {
      ...this.#settings(row),
      tools: { total: toolTotal, active: tools.activeIn(session_id).length },
      relics: { total: relicTotal, active: relics.liveIn(session_id).length },
      workers: { total: workerTotal, active: workers.lives.liveIn(session_id).length },
      network: networkView(network),
    }
  }
}

/** Runs outlive their session; where another owner has one of the same name now, they are not its runs. */
function viewOfOwner({ owner }: SessionRow): View | undefined {
  return owner === null ? undefined : { owner }
}

function networkView(network: SessionNetwork | undefined): SessionSummary['network'] {
  return network === undefined ? null : { id: network.id, name: network.name, subnet: network.subnet ?? null }
}
