import type { Health } from '../domain/health.ts'
import type { Engine, EngineInfo } from '../engine/engine.ts'
import { messageOf } from '../errors.ts'
import type { Store } from '../store/store.ts'
import { VERSION } from '../version.ts'
import type { DiskWatch } from './disk-watch.ts'
import type { NetworkManager } from './network-manager.ts'
import type { PoolManager } from './pool-manager.ts'
import type { RunQueue } from './queue.ts'
import type { RelicManager } from './relic-manager.ts'
import type { SessionGate } from './session-gate.ts'

export interface HealthManagerOptions {
  engine: Engine
  engineInfo: EngineInfo
  store: Store
  queue: Pick<RunQueue, 'waiting' | 'running'>
  relics: RelicManager
  networks: Pick<NetworkManager, 'isolation'>
  pool: Pick<PoolManager, 'report'>
  gate: SessionGate
  disk: DiskWatch
}

/** Tells whether the service and its engine can do what they are for. */
export class HealthManager {
  readonly #options: HealthManagerOptions

  constructor(options: HealthManagerOptions) {
    this.#options = options
  }

  async check(): Promise<Health> {
    const { disk, engineInfo, gate, networks, pool, queue, relics, store } = this.#options
    const { inForce, ...seen } = networks.isolation
    const [error, sessions] = await Promise.all([this.#engineError(), store.sessions.count()])
    return {
      status: error !== null ? 'unhealthy' : gate.draining || disk.isLow ? 'degraded' : 'healthy',
      engine: {
        reachable: error === null,
        name: engineInfo.name,
        version: engineInfo.version,
        api_version: engineInfo.apiVersion,
        storage_driver: engineInfo.storageDriver,
        error,
      },
      disk: { low: disk.isLow },
      isolation: { session_networks: inForce, ...seen },
      counts: { tools_queued: queue.waiting, tools_running: queue.running, relics: relics.count, sessions },
      pool: pool.report,
      version: VERSION,
      uptime_seconds: Math.round(process.uptime() * 10) / 10,
    }
  }

  /** True where new work would be taken and could be done. */
  async ready(): Promise<boolean> {
    const { disk, gate, store } = this.#options
    if (gate.draining || disk.isLow) return false
    const isReadable = store.sessions.count().then(
      () => true,
      () => false,
    )
    return (await isReadable) && (await this.#engineError()) === null
  }

  async #engineError(): Promise<string | null> {
    const { engine } = this.#options
    try {
      engine.availability.require('looking at its health')
      await engine.ping()
      return null
    } catch (error) {
      return messageOf(error)
    }
  }
}
