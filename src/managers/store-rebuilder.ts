import type { Engine } from '../engine/engine.ts'
import { decodeLabels, type Labels, type Ownership, ownedBy } from '../labels.ts'
import { workerVolumeName } from '../policy/volumes.ts'
import type { Store } from '../store/store.ts'
import type { DockerManager, OwnedContainer } from './docker-manager.ts'
import type { HostPaths } from './host-paths.ts'
import type { Log } from './log.ts'
import { newId } from './names.ts'
import type { NetworkManager } from './network-manager.ts'
import {
  type FoundContainer,
  isRebuildable,
  rebuiltRelic,
  rebuiltTool,
  rebuiltWorker,
  rebuiltWorkerOfVolumes,
  rebuiltWorkspace,
} from './rebuilt-records.ts'
import { DELETED } from './worker-record.ts'

export interface StoreRebuilderOptions {
  engine: Engine
  store: Store
  docker: DockerManager
  networks: NetworkManager
  hostPaths: HostPaths
  log: Log
}

const KINDS = ['tool', 'relic', 'worker'] as const

/** Makes the records of a store that was lost again, from the labels of what the instance has on the engine. */
export class StoreRebuilder {
  readonly #options: StoreRebuilderOptions

  constructor(options: StoreRebuilderOptions) {
    this.#options = options
  }

  /**
   * At boot, before anything looks for what no record claims. Does nothing for a store that is whole;
   * repeating it after a crash goes on where it was. Throws where the engine does not tell.
   */
  async rebuild(): Promise<void> {
    const { log, store } = this.#options
    const set_aside = store.setAside ?? null
    if (!store.needsRebuild) {
      if (set_aside !== null)
        log.error(
          { event: 'store.instance_lost', set_aside, instance: store.instance },
          'the store was corrupt and is set aside; the file "instance" is missing too: what the former instance has on the engine is not known any more, and has to be removed by hand',
        )
      return
    }
    log.error(
      { event: 'store.lost', set_aside, instance: store.instance },
      'the store was corrupt or missing: records are made again from the engine. Ended runs, runs that waited for their turn, idempotency keys, lifetimes and quotas of sessions are gone',
    )
    const counts = {
      sessions: await this.#sessions(),
      ...(await this.#containers()),
      volumes_kept: await this.#volumes(),
    }
    await store.events.append({ type: 'store.rebuilt', session_id: null, owner: null, data: counts })
    await store.rebuilt()
    log.warn({ event: 'store.rebuilt', ...counts }, 'the store is rebuilt')
  }

  /** Whatever bears a session's name says that there is that session. */
  async #sessions(): Promise<number> {
    const { docker, engine, networks, store } = this.#options
    const since = new Map<string, Date>()
    const owners = new Map<string, string>()
    const note = (session: string | undefined, createdAt: Date) => {
      if (session === undefined || (since.get(session) ?? createdAt) < createdAt) return
      since.set(session, createdAt)
    }
    for (const { owner, createdAt } of await docker.list()) {
      note(owner.session, createdAt)
      if (owner.session !== undefined && owner.owner !== undefined) owners.set(owner.session, owner.owner)
    }
    for (const { sessionId, createdAt } of await networks.list()) note(sessionId, createdAt)
    for (const { labels, createdAt } of await engine.volumes.list(ownedBy(store.instance, 'volume')))
      note(decodeLabels(labels)?.session, createdAt)
    for (const [session, createdAt] of since)
      await store.sessions.restore(session, createdAt, owners.get(session) ?? null)
    return since.size
  }

  async #containers(): Promise<{ tools: number; relics: number; workers: number }> {
    const { docker, store } = this.#options
    const found = await this.#inspected(await docker.list())
    const volumes = await this.#volumeOwners()
    const counts = { tools: 0, relics: 0, workers: 0 }
    for (const container of found) {
      const { kind, id, name } = container.owner
      if (kind === 'tool') {
        counts.tools += 1
        if ((await store.tools.get(id)) === undefined) await store.tools.insert(rebuiltTool(container))
      } else if (kind === 'relic') {
        counts.relics += 1
        if ((await store.relics.get(id)) === undefined) await store.relics.insert(rebuiltRelic(container))
      } else {
        counts.workers += 1
        if ((await store.workers.get(id)) !== undefined) continue
        const workspace = rebuiltWorkspace({ instance: store.instance, worker: name }, container.state.mounts, {
          toLocal: (path) => this.#options.hostPaths.toLocal(path),
          volumeName: (volume) => volumes.get(volume)?.name ?? volume,
        })
        await store.workers.insert(rebuiltWorker(container, workspace))
      }
    }
    return counts
  }

  /** One container for each run, relic and worker: of several, the one that got furthest. */
  async #inspected(containers: readonly OwnedContainer[]): Promise<FoundContainer[]> {
    const { engine, networks } = this.#options
    const sessionNetworks = new Set((await networks.list()).map(({ id }) => id))
    const images = new Map<string, Labels>()
    const furthest = new Map<string, FoundContainer>()
    for (const { id, owner } of containers) {
      if (!KINDS.some((kind) => kind === owner.kind) || !isRebuildable(owner)) continue
      if (owner.kind !== 'worker' && owner.session === undefined) continue
      const state = await engine.containers.inspect(id)
      if (state === undefined || state.status === 'removing') continue
      const imageLabels = images.get(state.imageId) ?? (await engine.images.inspect(state.imageId))?.labels ?? {}
      images.set(state.imageId, imageLabels)
      // Workers are known by their names, of which there is one each.
      const key = owner.kind === 'worker' ? `worker ${owner.name}` : owner.id
      const other = furthest.get(key)
      const found = { owner, state, imageLabels, sessionNetworks }
      if (other === undefined || progress(found) > progress(other)) furthest.set(key, found)
    }
    return [...furthest.values()]
  }

  /** Volumes of workers without a container are kept for the next worker of that name. */
  async #volumes(): Promise<number> {
    const { store } = this.#options
    let kept = 0
    for (const [volume, owner] of await this.#volumeOwners()) {
      const { id: worker, name } = owner
      if (name === undefined || volume !== workerVolumeName(store.instance, worker, name)) continue
      if ((await store.workers.find(worker, DELETED)) !== undefined) continue
      const named = { ...owner, id: newId('worker'), name: worker }
      if (!isRebuildable(named)) continue
      await store.workers.insert(rebuiltWorkerOfVolumes(named.id, named))
      kept += 1
    }
    return kept
  }

  /** By the engine's names. */
  async #volumeOwners(): Promise<Map<string, Ownership>> {
    const { engine, store } = this.#options
    const owners = new Map<string, Ownership>()
    for (const { name, labels } of await engine.volumes.list(ownedBy(store.instance, 'volume'))) {
      const owner = decodeLabels(labels)
      if (owner !== undefined) owners.set(name, owner)
    }
    return owners
  }
}

/** One that runs is further than one that has ended, and that than one that never started; then the newer one. */
function progress({ state }: FoundContainer): number {
  const stage = state.startedAt === undefined ? 0 : state.finishedAt === undefined ? 2 : 1
  return stage * 1e15 + state.createdAt.getTime()
}
