import { timestamp } from '../domain/common.ts'
import type { CleanupReport } from '../domain/session.ts'
import { hasEnded, type ToolStatus } from '../domain/tool.ts'
import type { ContainerState, Engine, VolumeState } from '../engine/engine.ts'
import { isEngineFault, messageOf } from '../errors.ts'
import { failpoint } from '../failpoints.ts'
import { decodeLabels, ownedBy } from '../labels.ts'
import type { Store } from '../store/store.ts'
import { untilEnded } from './container-end.ts'
import { hasBegun } from './container-start.ts'
import type { DockerManager, OwnedContainer } from './docker-manager.ts'
import type { EgressManager } from './egress-manager.ts'
import type { ExecManager } from './exec-manager.ts'
import { InFlight } from './in-flight.ts'
import type { Log } from './log.ts'
import type { NetworkManager } from './network-manager.ts'
import { renameForRun, wasNeverHandedOver } from './pool-client.ts'
import type { PoolManager } from './pool-manager.ts'
import type { RelicManager } from './relic-manager.ts'
import type { RelicEntry } from './relic-record.ts'
import { Rounds } from './rounds.ts'
import { Sightings } from './sightings.ts'
import { standingOf, type ToolManager } from './tool-manager.ts'
import type { ToolEntry } from './tool-record.ts'
import type { WorkerManager } from './worker-manager.ts'
import type { WorkerEntry } from './worker-record.ts'

export interface ReconcilerOptions {
  egress: EgressManager
  engine: Engine
  store: Store
  docker: DockerManager
  networks: NetworkManager
  tools: ToolManager
  pool: Pick<PoolManager, 'claims'>
  relics: RelicManager
  workers: WorkerManager
  execs: ExecManager
  log: Log
}

/** What is younger may be in the making: its record is written before it, its id after it. */
const GRACE_MS = 60_000
/** How long a parked container takes to notice that nobody will tell it anything. */
const UNTOLD_MS = 3_000
const INTERVAL_MS = 30_000

export interface ReconcileOptions {
  /** Milliseconds for which what is new is left alone; none at boot, when nobody makes anything. */
  graceMs?: number
  dryRun?: boolean
}

/**
 * Brings store and engine together: adopts what runs, settles what ended, removes what no record
 * claims. The same work at boot, regularly, and whenever the engine's events have had a gap.
 */
export class Reconciler {
  readonly #options: ReconcilerOptions
  readonly #rounds: Rounds
  readonly #working = new InFlight<CleanupReport>()
  readonly #records = new Sightings()
  readonly #resources = new Sightings()

  constructor(options: ReconcilerOptions) {
    this.#options = options
    this.#rounds = new Rounds({
      name: 'reconcile',
      everyMs: INTERVAL_MS,
      log: options.log,
      // An engine that is away is reconciled with when it comes back.
      work: async () => {
        if (options.engine.availability.isAvailable) await this.reconcile()
      },
    })
  }

  /** Reconciles regularly from now on. */
  begin(): void {
    this.#rounds.begin()
  }

  end(): void {
    this.#rounds.end()
  }

  /** At boot, before requests are served: takes over all that an earlier process left. */
  async recover(): Promise<void> {
    await this.#options.docker.takeStock()
    await this.#options.execs.recover()
    await this.reconcile({ graceMs: 0 })
  }

  /** Answers what it removed, or would remove with `dryRun`, which changes nothing. Calls at once share one. */
  reconcile({ graceMs = GRACE_MS, dryRun = false }: ReconcileOptions = {}): Promise<CleanupReport> {
    return this.#working.share(dryRun ? 'dry run' : 'reconcile', async () => {
      if (!dryRun) {
        await this.#options.egress.revive(await this.#options.docker.list())
        await this.#settleRecords(graceMs)
      }
      failpoint('reconcile.settled')
      return this.sweep({ dryRun, graceMs })
    })
  }

  /** Adopts or settles every live record that nobody in this process looks after. */
  async #settleRecords(graceMs: number): Promise<void> {
    const { docker, log, relics, store, tools, workers } = this.#options
    const containers = await docker.list()
    failpoint('reconcile.listed')
    const [liveTools, queued, liveRelics, liveWorkers] = await Promise.all([
      store.tools.live({ exceptStatus: 'queued' }),
      store.tools.requestNumbers('queued', { priority: '$.priority', memory_mb: '$.resource_limits.memory_mb' }),
      store.relics.live(),
      store.workers.live(),
    ])
    const orphans = {
      tools: liveTools.filter(({ id }) => !tools.isActive(id)),
      queued: queued.filter(({ id }) => !tools.isActive(id)),
      relics: liveRelics.filter(({ id }) => !relics.isLive(id)),
      workers: liveWorkers.filter(({ id }) => workers.lives.ofRecord(id) === undefined),
    }
    this.#records.note(Object.values(orphans).flatMap((entries) => entries.map(({ id }) => id)))
    const isOld = ({ id }: { id: string }) => this.#records.isOld(id, graceMs)
    const counts = { tools: 0, relics: 0, workers: 0, queued: 0 }
    for (const entry of orphans.tools.filter(isOld)) {
      counts.tools += 1
      await this.#attempt(entry.id, () => this.#recoverTool(entry, containerOf(entry, containers)))
    }
    for (const entry of orphans.relics.filter(isOld)) {
      counts.relics += 1
      await this.#attempt(entry.id, () => this.#recoverRelic(entry, containerOf(entry, containers)))
    }
    for (const entry of orphans.workers.filter(isOld)) {
      counts.workers += 1
      await this.#attempt(entry.id, () => this.#recoverWorker(entry, containerOf(entry, containers)))
    }
    // Last: what waits takes the places that what runs leaves.
    for (const { numbers, ...place } of orphans.queued.filter(isOld)) {
      counts.queued += 1
      tools.wait({ ...place, ...standingOf(numbers) })
    }
    await store.tools.releaseKept(new Set(containers.map(({ id }) => id)))
    if (Object.values(counts).some((count) => count > 0))
      log.info({ event: 'reconciled', ...counts }, 'records that nobody looked after are taken over or settled')
  }

  /** Removes containers, networks and volumes of this instance that no record claims. */
  async sweep({ dryRun, graceMs = GRACE_MS }: { dryRun: boolean; graceMs?: number }): Promise<CleanupReport> {
    const { docker, engine, log, networks, store, workers } = this.#options
    const report: CleanupReport = {
      containers_removed: 0,
      networks_removed: 0,
      volumes_removed: 0,
      tools_cancelled: 0,
      errors: [],
    }
    const [containers, allNetworks, volumes] = await Promise.all([
      docker.list(),
      networks.all(),
      engine.volumes.list(ownedBy(store.instance, 'volume')),
    ])
    const keyOfVolume = ({ name, createdAt }: VolumeState) => `${name} ${createdAt.toISOString()}`
    this.#resources.note([...containers, ...allNetworks].map(({ id }) => id).concat(volumes.map(keyOfVolume)))
    const old = (key: string) => this.#resources.isOld(key, graceMs)
    const attempt = async (resource: string, remove: () => Promise<boolean>): Promise<number> => {
      try {
        return dryRun || (await remove()) ? 1 : 0
      } catch (error) {
        report.errors.push({ resource, message: messageOf(error) })
        return 0
      }
    }
    for (const container of containers) {
      if (!old(container.id) || (await this.#isClaimed(container))) continue
      report.containers_removed += await attempt(`container ${container.name}`, () => docker.remove(container.id))
    }
    for (const network of await networks.list()) {
      if (!old(network.id) || (await store.sessions.get(network.sessionId)) !== undefined) continue
      if ((await networks.containersOf(network)).length > 0) continue
      report.networks_removed += await attempt(`network ${network.name}`, () => networks.remove(network))
    }
    if (!dryRun && !workers.lives.any) await networks.removeIdleInternal(old)
    for (const volume of volumes) {
      if (!old(keyOfVolume(volume)) || (await this.#isClaimedVolume(volume))) continue
      report.volumes_removed += await attempt(`volume ${volume.name}`, () => engine.volumes.remove(volume.name))
    }
    const removed = report.containers_removed + report.networks_removed + report.volumes_removed
    if (removed > 0 && !dryRun) log.warn({ event: 'orphans.removed', ...report }, 'orphans removed')
    return report
  }

  /** A container is whose it says while that looks after it; otherwise its record's, which may still be taken over. */
  async #isClaimed({ id, owner }: OwnedContainer): Promise<boolean> {
    const { pool, relics, store, tools, workers } = this.#options
    const isOf = (entry: { live: boolean; containerId: string | null; nonce: string } | undefined) =>
      entry?.live === true && (entry.containerId === id || entry.nonce === owner.nonce)
    switch (owner.kind) {
      case 'worker':
        if (workers.lives.ofRecord(owner.id) !== undefined)
          return workers.lives.claims(owner.name ?? '', id, owner.nonce)
        return isOf(await store.workers.get(owner.id))
      case 'relic':
        return relics.isLive(owner.id) || isOf(await store.relics.get(owner.id))
      case 'tool': {
        if (tools.isActive(owner.id)) return tools.claims(owner.id, owner.nonce)
        const entry = await store.tools.get(owner.id)
        // A run that ended claims its container only where its request asked to keep it.
        const isKept = entry?.containerId === id && entry.request !== null && hasEnded(entry.status as ToolStatus)
        return isKept || isOf(entry)
      }
      // One that was handed over before the service started anew is its run's.
      case 'pool':
        return pool.claims(owner.id) || (await store.tools.live()).some((entry) => entry.containerId === id)
      // A session's proxies last as long as it does.
      case 'egress':
        return owner.session !== undefined && (await store.sessions.get(owner.session)) !== undefined
      default:
        return false
    }
  }

  /** A session's volume is its session's; a run's or worker's own lasts as long as that. */
  async #isClaimedVolume({ labels }: VolumeState): Promise<boolean> {
    const owner = decodeLabels(labels)
    if (owner === undefined) return false
    const { docker, pool, store, workers } = this.#options
    if ((await workers.isKnown(owner.id)) || pool.claims(owner.id) || docker.isHandedOver(owner.id)) return true
    const run = await store.tools.get(owner.id)
    if (run !== undefined) return run.request !== null
    return owner.session !== undefined && (await store.sessions.get(owner.session)) !== undefined
  }

  async #recoverTool(entry: ToolEntry, container: OwnedContainer | undefined): Promise<void> {
    const { docker, engine, log, store, tools } = this.#options
    const state = container === undefined ? undefined : await engine.containers.inspect(container.id)
    if (container?.owner.kind === 'pool' && state !== undefined) {
      const { id, sessionId, name, nonce, view } = entry
      const owner = { kind: 'tool', id, session: sessionId, owner: entry.owner ?? undefined, name, nonce } as const
      const at = view.started_at === null ? undefined : new Date(view.started_at)
      docker.handOver(state.id, container.owner.id, owner, at)
    }
    if (state !== undefined && hasBegun(state) && !(await this.#isUntold(entry, state))) {
      log.info({ event: 'tool.adopted', execution_id: entry.id, container_id: state.id }, 'tool run adopted')
      if (state.name === container?.owner.id) void renameForRun(this.#options, state.id, entry)
      tools.adopt(entry, state)
      return
    }
    if (state !== undefined) await docker.remove(state.id)
    const isRebuilt = entry.request?.rebuilt === true
    if (entry.status !== 'running' && entry.request !== null && !isRebuilt) {
      log.info({ event: 'tool.requeued', execution_id: entry.id }, 'tool run queued again')
      await tools.requeue(entry)
      return
    }
    const failure = {
      code: 'lost' as const,
      message: isRebuilt
        ? 'What was asked for was lost with the store before it was done'
        : 'Its container ended and was removed while nobody could watch',
      hint: null,
    }
    const view = { ...entry.view, status: 'failed' as const, failure, completed_at: timestamp() }
    await store.tools.update({ ...entry, status: 'failed', live: false, request: null, view })
    log.warn({ event: 'tool.finished', execution_id: entry.id, outcome: 'failed', failure: 'lost' }, 'tool finished')
  }

  /**
   * True where an earlier process ended before it had told a parked container all of what to run. Its
   * stdin ended with that process, and so does it.
   */
  async #isUntold(entry: ToolEntry, state: ContainerState): Promise<boolean> {
    if (!entry.view.warm || entry.status === 'running') return false
    const { containers } = this.#options.engine
    const patience = AbortSignal.timeout(UNTOLD_MS)
    const ended = await untilEnded(containers, state.id, { signal: patience }).catch((error: unknown) => {
      if (patience.aborted) return undefined
      throw error
    })
    return ended !== undefined && wasNeverHandedOver(containers, ended)
  }

  async #recoverRelic(entry: RelicEntry, container: OwnedContainer | undefined): Promise<void> {
    const { docker, engine, log, relics, store } = this.#options
    const state = container === undefined ? undefined : await engine.containers.inspect(container.id)
    const wasStarting = entry.status === 'preparing' || entry.view.healthy_at === null
    if (state !== undefined && hasBegun(state) && !wasStarting) {
      log.info({ event: 'relic.adopted', relic_id: entry.id, container_id: state.id }, 'relic adopted')
      await relics.adopt(entry, state)
      return
    }
    if (state !== undefined) await docker.remove(state.id)
    const message = wasStarting
      ? 'The service ended while the relic was starting'
      : 'Its container was removed while nobody could watch'
    const failure = { code: 'lost' as const, message, hint: 'Start it again.' }
    const view = {
      ...entry.view,
      status: 'failed' as const,
      failure,
      container_id: null,
      internal_url: null,
      stopped_at: timestamp(),
    }
    await store.relics.update({ ...entry, status: 'failed', live: false, request: null, containerId: null, view })
    log.warn({ event: 'relic.lost', relic_id: entry.id, detail: message }, 'relic lost')
  }

  async #recoverWorker(entry: WorkerEntry, container: OwnedContainer | undefined): Promise<void> {
    const { docker, engine, log, store, workers } = this.#options
    const state = container === undefined ? undefined : await engine.containers.inspect(container.id)
    const wasStarting = entry.view.ready_at === null && (entry.status === 'preparing' || entry.status === 'starting')
    // One that never ran was to take an older one's place: it is started.
    if (state !== undefined && state.id === entry.containerId && !wasStarting) {
      if (state.startedAt === undefined) entry.view.status = 'starting'
      log.info({ event: 'worker.adopted', worker_id: entry.name, container_id: state.id }, 'worker adopted')
      await workers.adopt(entry, state)
      return
    }
    if (state !== undefined) await docker.remove(state.id)
    const message = wasStarting
      ? 'The service ended while the worker was starting'
      : 'Its container was removed while nobody could watch'
    const failure = { code: 'lost' as const, message, hint: 'Start it again: its workspace is kept.' }
    const view = { ...entry.view, status: 'failed' as const, failure, container_id: null, stopped_at: timestamp() }
    await store.workers.update({ ...entry, status: 'failed', live: false, containerId: null, view })
    log.warn({ event: 'worker.lost', worker_id: entry.name, detail: message }, 'worker lost')
  }

  async #attempt(id: string, work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      if (isEngineFault(error, 'unavailable', 'deadline')) throw error
      this.#options.log.error(
        { event: 'recover.failed', id, error: messageOf(error) },
        'a record could not be reconciled',
      )
    }
  }
}

/** The container of a record: by its id, or by the nonce of a create whose answer never arrived. */
function containerOf(
  entry: { containerId: string | null; nonce: string },
  containers: readonly OwnedContainer[],
): OwnedContainer | undefined {
  return (
    containers.find((container) => container.id === entry.containerId) ??
    containers.find((container) => container.owner.nonce === entry.nonce)
  )
}
