/** A service with a data folder of its own on the machine's engine, as a process. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { Engine } from '../../src/engine/engine.ts'
import { ownedBy } from '../../src/labels.ts'
import { removeAll } from '../fixtures/service.ts'
import { KillableService } from './killable-service.ts'
import { ServiceClient } from './service-client.ts'

export interface Installation {
  folder: string
  service: KillableService
  client: ServiceClient
  /** By which its containers, networks and volumes are labelled. */
  instance: string
  /** So many containers may be parked. */
  poolMax: number
}

/** Few: what is parked takes its part of the machine from what a suite does. */
const POOL_MAX = 2

export async function install(environment: Record<string, string>): Promise<Installation> {
  const folder = await mkdtemp(join(tmpdir(), 'co-faults-'))
  const settings = { CO_DATA_DIR: folder, CO_LOG_LEVEL: 'warn', CO_POOL_MAX: String(POOL_MAX), ...environment }
  const service = await KillableService.create(settings)
  try {
    await service.start()
  } catch (error) {
    await service.kill()
    await rm(folder, { recursive: true, force: true })
    throw error
  }
  const poolMax = Number(settings.CO_POOL_MAX)
  return { folder, service, client: new ServiceClient(service.url), instance: instanceIn(folder), poolMax }
}

/** Ends it, and leaves nothing on the engine or on disk. */
export async function uninstall({ service, folder, instance }: Installation, engine: Engine): Promise<void> {
  await service.kill()
  await removeAll(engine, instance)
  await rm(folder, { recursive: true, force: true })
}

/** True for a container that waits to become a run's: it has that run's name from then on. */
export const isParked = ({ name }: { name: string }) => name.startsWith('pool_')

/**
 * What it has on the engine beside its toolbox and internal bridge, which are for good, and as many parked
 * containers as it may have.
 */
export async function leftOf({ instance, poolMax }: Installation, engine: Engine): Promise<string[]> {
  const owned = ownedBy(instance)
  const [containers, networks, volumes] = await Promise.all([
    engine.containers.list(owned),
    engine.networks.list(owned),
    engine.volumes.list(owned),
  ])
  const parked = containers.filter(isParked)
  return [
    ...containers.filter((container) => !isParked(container)).map(({ name }) => name),
    ...parked.slice(poolMax).map(({ name }) => name),
    ...networks.map(({ name }) => name).filter((name) => !name.startsWith('internal_')),
    ...volumes.map(({ name }) => name).filter((name) => !name.startsWith('toolbox_')),
  ]
}

function instanceIn(folder: string): string {
  const database = new DatabaseSync(join(folder, 'store.sqlite'), { readOnly: true })
  try {
    const row = database.prepare('select id from instance').get() as { id: string } | undefined
    if (row === undefined) throw new Error(`the store in ${folder} has no instance`)
    return row.id
  } finally {
    database.close()
  }
}
