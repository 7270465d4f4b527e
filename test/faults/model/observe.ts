/** What can be seen of the service and its engine, put beside what the model expects. */
import { isDeepStrictEqual } from 'node:util'
import { expect } from 'vitest'
import { decodeLabels, ownedBy } from '../../../src/labels.ts'
import { type Model, type Relic, SESSIONS, type Snapshot, WORKERS, type Worker, type WorkerName } from './model.ts'
import { eventually, SLOTS, type World } from './world.ts'

const ALL = 'limit=1000'
const ACTIVE = new Set(['queued', 'preparing', 'running'])

interface RunView {
  execution_id: string
  session_id: string
  status: string
  failure: { code: string } | null
}

interface RelicView {
  relic_id: string
  session_id: string
  relic_name: string
  status: string
  restarts: number
}

interface WorkerView {
  worker_id: WorkerName
  status: string
  refreshes: number
}

interface ExecView {
  exec_id: string
  status: string
}

interface SessionView {
  session_id: string
  tools: { total: number; active: number }
  workers: { total: number }
  network: object | null
}

/** Waits until what is seen is what is expected; throws with the difference where it never is. */
export async function compare(model: Model, world: World): Promise<void> {
  const wanted = model.snapshot()
  const seen = await eventually(
    world,
    () => observe(world),
    (snapshot) => isDeepStrictEqual(snapshot, wanted),
  )
  expect(seen).toEqual(wanted)
  await compareDecoys(world)
}

export async function compareDecoys(world: World): Promise<void> {
  const { now, made } = await world.decoys()
  expect(now, "another installation's are untouched").toEqual(made)
}

async function observe(world: World): Promise<Snapshot> {
  const [sessions, tools, relics, workers] = await Promise.all([
    items<SessionView>(world, `/sessions?${ALL}`),
    items<RunView>(world, `/containers/tool?${ALL}`),
    items<RelicView>(world, `/containers/relic?${ALL}`),
    world.get(`/containers/worker?${ALL}`),
  ])
  const workerViews: WorkerView[] = workers.body.items
  const execs = await Promise.all(workerViews.map(({ worker_id }) => execsOf(world, worker_id)))
  const active = new Set(tools.filter(({ status }) => ACTIVE.has(status)).map(({ execution_id }) => execution_id))
  return {
    sessions: Object.fromEntries(
      sessions.map((session) => [
        session.session_id,
        `tools ${session.tools.active}/${session.tools.total}, workers ${session.workers.total}, ${session.network === null ? 'no network' : 'network'}`,
      ]),
    ),
    tools: Object.fromEntries(tools.map((run) => [run.execution_id, `${run.session_id} ${outcomeOf(run)}`])),
    relics: Object.fromEntries(
      relics.map((relic) => [
        relic.relic_id,
        `${relic.session_id} ${relic.relic_name} ${relic.status} ${relic.restarts}`,
      ]),
    ),
    workers: Object.fromEntries(workerViews.map((view) => [view.worker_id, `${view.status} ${view.refreshes}`])),
    execs: Object.fromEntries(execs.flat().map(({ exec_id, status }) => [exec_id, status])),
    running: workers.body.running,
    ...(await observeEngine(world, active)),
  }
}

/** What bears this instance's labels, but for the toolbox and the bridge of the workers. */
async function observeEngine(
  world: World,
  active: ReadonlySet<string>,
): Promise<Pick<Snapshot, 'containers' | 'networks' | 'volumes'>> {
  const owned = ownedBy(world.instance)
  const [containers, networks, volumes] = await Promise.all([
    world.engine.containers.list(owned),
    world.engine.networks.list(owned),
    world.engine.volumes.list(owned),
  ])
  return {
    containers: containers
      .map(({ id, name, labels, status }) => {
        const owner = decodeLabels(labels)
        if (name.startsWith('orphan_')) return `orphan ${id} ${status}`
        if (owner?.kind === 'worker') return `worker ${owner.name} ${status}`
        if (owner?.kind === 'tool' && active.has(owner.id)) return `tool ${status}`
        return `${owner?.kind} ${owner?.id} ${status}`
      })
      .toSorted(),
    networks: networks.flatMap(({ labels }) => decodeLabels(labels)?.session ?? []).toSorted(),
    volumes: volumes
      .flatMap(({ labels }) => {
        const owner = decodeLabels(labels)
        if (owner?.kind !== 'volume') return []
        return owner.name === 'workspace' ? `worker ${owner.id}` : `${owner.session}/${owner.name}`
      })
      .toSorted(),
  }
}

function outcomeOf({ status, failure }: RunView): string {
  if (ACTIVE.has(status)) return 'active'
  return status === 'failed' ? `failed ${failure?.code}` : status
}

async function items<T>(world: World, url: string): Promise<T[]> {
  const { status, body } = await world.get(url)
  expect(status, url).toBe(200)
  return body.items as T[]
}

async function execsOf(world: World, worker: string): Promise<ExecView[]> {
  const { status, body } = await world.get(`/containers/worker/${worker}/exec?${ALL}`)
  // It may have been deleted since it was listed.
  return status === 200 ? (body.items as ExecView[]) : []
}

/**
 * Takes the world as it is for what is expected from now on: after calls whose order nobody knows. What
 * must hold in any order is looked at: all that is on the engine belongs to what is listed.
 */
export async function adopt(model: Model, world: World): Promise<void> {
  const kept = new Set([...model.tools.values()].filter((tool) => tool.kept).map(({ id }) => `tool ${id} exited`))
  const stray = (seen: Snapshot) => strays(seen, kept, model)
  const seen = await eventually(
    world,
    () => observe(world),
    (snapshot) => stray(snapshot).length === 0 && isDone(snapshot),
  )
  expect(stray(seen), 'what no record claims').toEqual([])
  expect(isDone(seen), JSON.stringify(seen)).toBe(true)

  model.sessions.clear()
  for (const session of Object.keys(seen.sessions))
    model.sessions.set(session, { network: seen.networks.includes(session) })
  const runs = await items<RunView>(world, `/containers/tool?${ALL}`)
  for (const run of runs) {
    const id = run.execution_id
    model.tools.set(id, {
      id,
      session: run.session_id,
      outcome: outcomeOf(run),
      kept: seen.containers.includes(`tool ${id} exited`),
    })
  }
  for (const id of model.relics.keys()) if (!(id in seen.relics)) model.deletedRelics.push(id)
  model.relics.clear()
  for (const view of await items<RelicView>(world, `/containers/relic?${ALL}`)) {
    const id = view.relic_id
    model.relics.set(id, {
      id,
      session: view.session_id,
      name: view.relic_name,
      status: view.status as Relic['status'],
      restarts: view.restarts,
      hasContainer: seen.containers.some((container) => container.startsWith(`relic ${id} `)),
    })
  }
  await adoptWorkers(model, world, seen)
  model.volumes.clear()
  for (const volume of seen.volumes) model.volumes.add(volume)
}

async function adoptWorkers(model: Model, world: World, seen: Snapshot): Promise<void> {
  for (const name of WORKERS) {
    // One may have come and gone unseen.
    if (name in seen.workers || model.deletedWorkers.has(name)) continue
    if ((await world.call('DELETE', `/containers/worker/${name}`)).status === 204) model.deletedWorkers.add(name)
  }
  model.workers.clear()
  for (const view of await items<WorkerView>(world, `/containers/worker?${ALL}`)) {
    const name = view.worker_id
    const execs = await execsOf(world, name)
    const life = await world.services.workers.life(name).catch(() => undefined)
    model.workers.set(name, {
      name,
      status: view.status as Worker['status'],
      refreshes: view.refreshes,
      brief: life?.request.command?.[0] === 'true',
      hasContainer: seen.containers.some((container) => container.startsWith(`worker ${name} `)),
      isHeld: life !== undefined,
      execs: execs.map(({ exec_id, status }) => ({ id: exec_id, outcome: status })),
    })
  }
}

/** Nothing is on its way any more. */
function isDone(seen: Snapshot): boolean {
  const views = [...Object.values(seen.relics), ...Object.values(seen.workers)]
  const active = Object.values(seen.tools).filter((view) => view.endsWith(' active'))
  const running = seen.containers.filter((container) => container === 'tool running')
  return !views.some((view) => /preparing|starting/.test(view)) && running.length === Math.min(SLOTS, active.length)
}

function strays(seen: Snapshot, kept: ReadonlySet<string>, model: Model): string[] {
  const workerSession = (name: string) => SESSIONS[name === 'w1' ? 0 : 1] ?? ''
  const isClaimed = (container: string): boolean => {
    const [kind = '', id = '', status] = container.split(' ')
    if (kind === 'orphan') return model.orphans.has(id)
    if (kind === 'relic') return id in seen.relics
    if (kind === 'worker') return id in seen.workers
    return status === undefined || kept.has(container)
  }
  const sessionsOfLive = [
    ...Object.values(seen.tools)
      .filter((view) => view.endsWith(' active'))
      .map((view) => view.split(' ')[0] ?? ''),
    ...Object.values(seen.relics).map((view) => view.split(' ')[0] ?? ''),
    ...Object.keys(seen.workers)
      .filter((name) => name !== 'w0')
      .map(workerSession),
  ]
  const twice = seen.containers.filter((container, index) => {
    const before = seen.containers[index - 1]?.split(' ')
    return container.startsWith('worker') && before?.[1] === container.split(' ')[1]
  })
  return [
    ...seen.containers.filter((container) => !isClaimed(container)),
    ...twice.map((container) => `second ${container}`),
    ...seen.networks.filter((session) => !(session in seen.sessions)).map((session) => `network of ${session}`),
    ...seen.volumes.filter((volume) => {
      const [owner = '', name = ''] = volume.startsWith('worker ') ? volume.split(' ') : volume.split('/')
      return owner === 'worker' ? !(name in seen.workers) : !(owner in seen.sessions)
    }),
    ...sessionsOfLive
      .filter((session) => !(session in seen.sessions))
      .map((session) => `something of ended ${session}`),
  ]
}
