import { randomUUID } from 'node:crypto'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MemoryEngine } from '../../../src/engine/memory/memory-engine.ts'
import { encodeLabels, type Kind } from '../../../src/labels.ts'
import { DockerManager } from '../../../src/managers/docker-manager.ts'
import { HostPaths } from '../../../src/managers/host-paths.ts'
import { newId } from '../../../src/managers/names.ts'
import { NetworkManager } from '../../../src/managers/network-manager.ts'
import { rebuiltWorkspace } from '../../../src/managers/rebuilt-records.ts'
import { StoreRebuilder } from '../../../src/managers/store-rebuilder.ts'
import { workerVolumeName } from '../../../src/policy/volumes.ts'
import { Store } from '../../../src/store/store.ts'
import { TOOLBOX } from '../../fixtures/images.ts'
import { temporaryFolder } from '../support/folders.ts'

const MIB = 1024 * 1024
const log = pino({ level: 'silent' })

let folder: string
let store: Store
let engine: MemoryEngine

/** A store that was lost: its instance is known, its records are not. */
beforeEach(async () => {
  folder = await temporaryFolder()
  await (await Store.open(folder)).close()
  await loseDatabase()
  store = await Store.open(folder)
  engine = new MemoryEngine()
})
afterEach(async () => {
  await store.close()
})

async function loseDatabase(): Promise<void> {
  for (const name of await readdir(folder)) if (name.startsWith('store.sqlite')) await rm(join(folder, name))
}

function rebuild(): Promise<void> {
  const { instance } = store
  const docker = new DockerManager({ engine, instance, log })
  const networks = new NetworkManager({ engine, instance, range: '10.213.0.0/16', isolation: 'inhibit_ipv4', log })
  return new StoreRebuilder({ engine, store, docker, networks, hostPaths: new HostPaths(), log }).rebuild()
}

interface Made {
  kind: Kind
  id?: string
  name?: string
  session?: string
  instance?: string
  command?: string[]
  start?: boolean
}

async function make({ kind, id, name = 'n', session, instance = store.instance, command, start = true }: Made) {
  const owner = {
    instance,
    kind,
    id: id ?? newId(kind === 'tool' ? 'exec' : 'relic'),
    name,
    session,
    nonce: randomUUID(),
  }
  const image = await engine.images.inspect(TOOLBOX)
  const containerId = await engine.containers.create({
    name: randomUUID(),
    imageId: image?.id ?? '',
    command: command ?? ['sleep', '600'],
    environment: {},
    labels: { ...encodeLabels(owner), purpose: 'test' },
    user: '1000:1000',
    openStdin: false,
    resources: { memoryBytes: 64 * MIB, cpus: 0.5, pids: 32, openFiles: { soft: 256, hard: 256 } },
    sandbox: { readonlyRoot: true, capabilities: [], tmpfs: [] },
    mounts: [],
    network: { mode: 'none' },
    ports: [],
  })
  if (start) await engine.containers.start(containerId)
  return { ...owner, containerId }
}

describe('StoreRebuilder', () => {
  it('makes a run again as its container tells of it, with the limits that it has', async () => {
    const { id, containerId, nonce } = await make({ kind: 'tool', name: 'sum', session: 's1' })
    await rebuild()
    expect(await store.tools.get(id)).toMatchObject({
      sessionId: 's1',
      name: 'sum',
      status: 'running',
      live: true,
      containerId,
      nonce,
      request: { rebuilt: true, cleanup: true, resource_limits: { memory_mb: 64, cpu_limit: 0.5, pids_limit: 32 } },
      view: {
        execution_id: id,
        status: 'running',
        container_id: containerId,
        image: null,
        labels: { purpose: 'test' },
      },
    })
    expect(await store.sessions.get('s1')).toMatchObject({ ttl_seconds: null, quota_runs: null })
  })

  it('keeps the container of a run that has ended, as it may have been asked to', async () => {
    const { id, containerId } = await make({ kind: 'tool', session: 's1', command: ['true'] })
    await engine.containers.wait(containerId)
    await rebuild()
    expect(await store.tools.get(id)).toMatchObject({ status: 'running', live: true, request: { cleanup: false } })
  })

  it('tells a run, relic and worker that never started as such', async () => {
    const tool = await make({ kind: 'tool', session: 's1', start: false })
    const relic = await make({ kind: 'relic', session: 's1', start: false })
    const worker = await make({ kind: 'worker', id: newId('worker'), start: false })
    await rebuild()
    expect(await store.tools.get(tool.id)).toMatchObject({ status: 'preparing' })
    expect(await store.relics.get(relic.id)).toMatchObject({ status: 'starting', view: { healthy_at: null } })
    expect(await store.workers.get(worker.id)).toMatchObject({ status: 'starting', view: { ready_at: null } })
  })

  it('makes a relic again: healthy while it runs, stopped otherwise', async () => {
    const runs = await make({ kind: 'relic', session: 's1' })
    const ended = await make({ kind: 'relic', session: 's1', command: ['true'] })
    await engine.containers.wait(ended.containerId)
    await rebuild()
    expect(await store.relics.get(runs.id)).toMatchObject({
      status: 'healthy',
      request: { rebuilt: true, health_check_endpoint: null },
      view: { healthy_at: expect.any(String), internal_url: null },
    })
    expect(await store.relics.get(ended.id)).toMatchObject({
      status: 'stopped',
      view: { stopped_at: expect.any(String) },
    })
  })

  it('makes a worker again: running, paused, or stopped with its exit code; none is started again by itself', async () => {
    const runs = await make({ kind: 'worker', id: newId('worker'), name: 'w1', session: 's1' })
    const paused = await make({ kind: 'worker', id: newId('worker'), name: 'w2' })
    await engine.containers.pause(paused.containerId)
    const ended = await make({ kind: 'worker', id: newId('worker'), name: 'w3', command: ['sh', '-c', 'exit 3'] })
    await engine.containers.wait(ended.containerId)
    await rebuild()
    expect(await store.workers.get(runs.id)).toMatchObject({
      name: 'w1',
      sessionId: 's1',
      status: 'running',
      request: { rebuilt: true, memory_limit: '64m', restart_policy: { max_retries: 0 } },
      view: { user: '1000:1000', memory_limit_bytes: 64 * MIB, cpu_limit: 0.5 },
    })
    expect(await store.workers.get(paused.id)).toMatchObject({ status: 'paused', sessionId: '' })
    expect(await store.workers.get(ended.id)).toMatchObject({
      status: 'stopped',
      view: { exit_code: 3, exit_meaning: { meaning: 'blocked' } },
    })
  })

  it('takes the container that runs, where a worker was just being given another', async () => {
    const id = newId('worker')
    const old = await make({ kind: 'worker', id, name: 'w1' })
    await make({ kind: 'worker', id, name: 'w1', start: false })
    await make({ kind: 'worker', id: newId('worker'), name: 'w1', start: false })
    await rebuild()
    expect(await store.workers.list({})).toMatchObject({ items: [{ worker_id: 'w1', container_id: old.containerId }] })
  })

  it('keeps volumes of a worker that has no container, by a record of it', async () => {
    const name = workerVolumeName(store.instance, 'gone', 'workspace')
    const owner = { instance: store.instance, kind: 'volume', id: 'gone', name: 'workspace', nonce: 'n' } as const
    await engine.volumes.create(name, encodeLabels(owner))
    await rebuild()
    const kept = await store.workers.find('gone')
    expect(kept).toMatchObject({ status: 'failed', live: false, view: { failure: { code: 'lost' } } })
    // What has a request is not let go of by the retention.
    expect(kept?.request).not.toBeNull()
  })

  it('leaves alone what is not of this instance, or what nobody here can have named', async () => {
    await make({ kind: 'tool', session: 's1', instance: randomUUID() })
    await make({ kind: 'tool', session: 's1', id: '../../etc' })
    await make({ kind: 'worker', id: newId('worker'), name: '../x' })
    await make({ kind: 'tool' })
    await rebuild()
    expect([await store.tools.count(), await store.workers.count()]).toEqual([0, 0])
  })

  it('goes on after a crash in its middle, without making anything twice', async () => {
    const { id } = await make({ kind: 'tool', session: 's1' })
    await make({ kind: 'worker', id: newId('worker'), name: 'w1' })
    const name = workerVolumeName(store.instance, 'gone', 'workspace')
    const owner = { instance: store.instance, kind: 'volume', id: 'gone', name: 'workspace', nonce: 'n' } as const
    await engine.volumes.create(name, encodeLabels(owner))
    const list = engine.volumes.list.bind(engine.volumes)
    let calls = 0
    engine.volumes.list = async (labels) => {
      calls += 1
      // The last look: records of containers are made by then.
      if (calls === 3) throw new Error('the process ends here')
      return list(labels)
    }
    await expect(rebuild()).rejects.toThrow('the process ends here')
    expect(await store.tools.count()).toBe(1)
    await store.close()
    store = await Store.open(folder)
    expect(store.needsRebuild).toBe(true)
    await rebuild()
    expect(store.needsRebuild).toBe(false)
    expect(await store.tools.get(id)).toMatchObject({ status: 'running' })
    expect([await store.tools.count(), await store.workers.count()]).toEqual([1, 2])
    await store.close()
    store = await Store.open(folder)
    expect(store.needsRebuild).toBe(false)
  })
})

describe('rebuiltWorkspace', () => {
  const worker = { instance: 'i', worker: 'w' }
  const names = { toLocal: (path: string) => `/host${path}`, volumeName: () => 'named' }
  const mount = (source: string, target: string) => ({ source, target })

  it('tells a host folder, a named volume and one of the worker’s own apart', () => {
    expect(rebuiltWorkspace(worker, [mount('/srv/x', '/workspace')], names)).toEqual({ host_path: '/host/srv/x' })
    const volume = (name: string) => [{ ...mount('/volumes/x', '/workspace'), volume: name }]
    expect(rebuiltWorkspace(worker, volume('other'), names)).toEqual({ volume: 'named' })
    expect(rebuiltWorkspace(worker, volume(workerVolumeName('i', 'w', 'workspace')), names)).toBeUndefined()
    expect(rebuiltWorkspace(worker, [], names)).toBeUndefined()
  })

  it('finds the repository of a worktree, so that it is guarded again', () => {
    const mounts = [
      mount('/srv/tree', '/workspace'),
      mount('/srv/main/.git', '/srv/main/.git'),
      mount('/srv/main/.git/hooks', '/srv/main/.git/hooks'),
      mount('/srv/main/.git/worktrees', '/srv/main/.git/worktrees'),
      mount('/srv/main/.git/worktrees/tree', '/srv/main/.git/worktrees/tree'),
      mount('/srv/main/.git/worktrees/tree/commondir', '/srv/main/.git/worktrees/tree/commondir'),
      mount('/srv/tree/.git', '/workspace/.git'),
    ]
    expect(rebuiltWorkspace(worker, mounts, names)).toEqual({
      git_worktree: { path: '/host/srv/tree', repository: '/host/srv/main/.git' },
    })
  })
})
