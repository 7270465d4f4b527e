import fc from 'fast-check'
import { expect } from 'vitest'
import { TOOLBOX, UNREACHABLE } from '../../fixtures/images.ts'
import { isOnSessionNetwork, type Model, sessionOf, WORKERS, type Worker, type WorkerName } from './model.ts'
import { answeredByKey, expectStatus, keyHeader, keys, LONG, pick, Step } from './step.ts'
import { eventually, type World } from './world.ts'

const START = '/containers/worker/start'
const KINDS = ['steady', 'steady', 'steady', 'steady', 'brief', 'blocked', 'unready', 'missing image'] as const
type Kind = (typeof KINDS)[number]

const names = fc.constantFrom(...WORKERS)
const kinds = fc.constantFrom(...KINDS)
/** All but the name, which is in the path of `ensure`. */
export function workerFields(name: WorkerName, kind: Kind = 'steady'): object {
  const session = sessionOf(name)
  const commands: Record<Kind, readonly string[]> = {
    steady: LONG,
    brief: ['true'],
    blocked: ['sh', '-c', 'exit 3'],
    unready: LONG,
    'missing image': LONG,
  }
  const ready = {
    steady: { ready: { command: ['true'] } },
    unready: { ready: { command: ['false'], timeout_seconds: 0.2 } },
    brief: {},
    blocked: {},
    'missing image': {},
  }
  return {
    image: kind === 'missing image' ? UNREACHABLE : TOOLBOX,
    command: commands[kind],
    ...(session === undefined ? {} : { session_id: session }),
    ...(isOnSessionNetwork(name) ? { network: 'session' } : {}),
    ...ready[kind],
    // What ends is told at once.
    restart_policy: { max_retries: 0 },
  }
}

/** What a start of this kind is answered, and what it leaves. */
function statusOf(kind: Kind, world: World): number {
  const statuses: Record<Kind, number> = {
    steady: 201,
    brief: 201,
    blocked: 422,
    unready: 504,
    'missing image': world.subject.unpullable === 'pull_failed' ? 502 : 422,
  }
  return statuses[kind]
}

function noteStart(model: Model, name: WorkerName, kind: Kind): void {
  const isUp = kind === 'steady' || kind === 'brief'
  const session = sessionOf(name)
  if (session !== undefined) {
    const row = model.touch(session)
    if (isOnSessionNetwork(name)) row.network = true
  }
  if (isUp) model.volumes.add(`worker ${name}`)
  model.workers.set(name, {
    name,
    status: kind === 'steady' ? 'running' : kind === 'brief' ? 'completed' : 'failed',
    refreshes: 0,
    brief: kind === 'brief',
    hasContainer: isUp,
    isHeld: isUp,
    execs: [],
  })
}

export const startWorker = fc.record({ name: names, kind: kinds, key: keys }).map(
  ({ name, kind, key }) =>
    new Step(`start worker ${JSON.stringify({ name, kind, key })}`, async (model, world) => {
      const body = { worker_id: name, ...workerFields(name, kind) }
      if (await answeredByKey(model, world, key, { path: START, body })) return
      const reply = await world.post(START, body, keyHeader(key))
      const former = model.workers.get(name)
      if (former?.status === 'running' || former?.status === 'paused') {
        expectStatus(reply, 409, 'the start of a worker that lives')
        return
      }
      const status = statusOf(kind, world)
      expectStatus(reply, status, `a worker (${kind})`)
      noteStart(model, name, kind)
      if (key !== undefined)
        model.keys.set(key, { path: START, body, status, idField: 'worker_id', id: status === 201 ? name : undefined })
    }),
)

export const ensureWorker = fc.record({ name: names, kind: kinds }).map(
  ({ name, kind }) =>
    new Step(`ensure worker ${JSON.stringify({ name, kind })}`, async (model, world) => {
      const reply = await world.post(`/containers/worker/${name}/ensure`, workerFields(name, kind))
      const former = model.workers.get(name)
      if (former?.isHeld) {
        expectStatus(reply, 200, 'ensure of a worker that there is')
        startedAgain(model, former)
        expect(reply.body.status).toBe(former.status)
        return
      }
      expectStatus(reply, statusOf(kind, world), `ensure of a new worker (${kind})`)
      noteStart(model, name, kind)
    }),
)

function startedAgain(model: Model, worker: Worker): void {
  const isUp = worker.status === 'running' || worker.status === 'paused'
  if (!isUp) model.endExecs(worker)
  worker.status = worker.brief ? 'completed' : 'running'
  worker.hasContainer = true
}

/** What needs a worker that the service holds: 404 where there never was one, 409 where it has no container. */
function refusal(model: Model, name: WorkerName): number | undefined {
  const worker = model.workers.get(name)
  return worker === undefined ? 404 : worker.isHeld ? undefined : 409
}

function onWorker(
  label: string,
  work: (name: WorkerName, model: Model, world: World) => Promise<void>,
): fc.Arbitrary<Step> {
  return names.map((name) => new Step(`${label} ${name}`, (model, world) => work(name, model, world)))
}

function held(model: Model, name: WorkerName): Worker {
  const worker = model.workers.get(name)
  if (worker === undefined) throw new Error(`the model has no worker ${name}`)
  return worker
}

export const stopWorker = onWorker('stop worker', async (name, model, world) => {
  const reply = await world.post(`/containers/worker/${name}/stop`, { timeout_seconds: 0 })
  const worker = model.workers.get(name)
  if (worker === undefined) return expectStatus(reply, 404, 'the stop of no worker')
  expectStatus(reply, 200, 'the stop of a worker')
  if (worker.status === 'running' || worker.status === 'paused') worker.status = 'stopped'
  expect(reply.body.status).toBe(worker.status)
  model.endExecs(worker)
})

export const restartWorker = onWorker('restart worker', async (name, model, world) => {
  const reply = await world.post(`/containers/worker/${name}/restart`)
  const refused = refusal(model, name)
  expectStatus(reply, refused ?? 200, 'the restart of a worker')
  if (refused !== undefined) return
  const worker = held(model, name)
  model.endExecs(worker)
  startedAgain(model, worker)
})

export const refreshWorker = onWorker('refresh worker', async (name, model, world) => {
  const reply = await world.post(`/containers/worker/${name}/refresh`, { timeout_seconds: 0, when_busy: 'refuse' })
  const isBusy = model.workers.get(name)?.execs.some(({ outcome }) => outcome === 'running')
  const refused = refusal(model, name) ?? (isBusy ? 409 : undefined)
  expectStatus(reply, refused ?? 200, 'the refresh of a worker')
  if (refused !== undefined) return
  const worker = held(model, name)
  startedAgain(model, worker)
  worker.refreshes += 1
})

export const pauseWorker = onWorker('pause worker', async (name, model, world) => {
  const reply = await world.post(`/containers/worker/${name}/pause`)
  const worker = model.workers.get(name)
  const isUp = worker?.status === 'running' || worker?.status === 'paused'
  expectStatus(reply, refusal(model, name) ?? (isUp ? 200 : 409), 'the pause of a worker')
  if (worker !== undefined && isUp) worker.status = 'paused'
})

export const resumeWorker = onWorker('resume worker', async (name, model, world) => {
  const reply = await world.post(`/containers/worker/${name}/resume`)
  const worker = model.workers.get(name)
  const isUp = worker?.status === 'running' || worker?.status === 'paused'
  expectStatus(reply, refusal(model, name) ?? (isUp ? 200 : 409), 'the resumption of a worker')
  if (worker !== undefined && isUp) worker.status = 'running'
})

export const deleteWorker = onWorker('delete worker', async (name, model, world) => {
  const reply = await world.call('DELETE', `/containers/worker/${name}`)
  const isKnown = model.workers.has(name) || model.deletedWorkers.has(name)
  expectStatus(reply, isKnown ? 204 : 404, 'the deletion of a worker')
  if (isKnown) model.forgetWorker(name)
})

export const readWorker = onWorker('read worker', async (name, model, world) => {
  const path = `/containers/worker/${name}`
  const worker = model.workers.get(name)
  const status = worker === undefined ? 404 : 200
  const reply = await world.get(path)
  expectStatus(reply, status, 'a worker')
  expectStatus(await world.get(`${path}/logs`), status, 'the log of a worker')
  if (worker === undefined) return
  expect(reply.body.container_id !== null).toBe(worker.hasContainer)
  const session = sessionOf(name)
  if (session === undefined) return
  const { body } = await world.get(`/containers/worker?session_id=${session}`)
  expect(body.items).toHaveLength([...model.workers.keys()].filter((other) => sessionOf(other) === session).length)
})

const COMMANDS = { ok: 'true', fails: 'exit 3', long: 'sleep 86400' } as const

export const execInWorker = fc.record({ name: names, kind: fc.constantFrom('ok', 'fails', 'long') }).map(
  ({ name, kind }: { name: WorkerName; kind: keyof typeof COMMANDS }) =>
    new Step(`exec in ${name} (${kind})`, async (model, world) => {
      const isLong = kind === 'long'
      const body = { command: COMMANDS[kind], wait: !isLong }
      const reply = await world.post(`/containers/worker/${name}/exec`, body)
      const refused = refusal(model, name) ?? (model.workers.get(name)?.status === 'running' ? undefined : 409)
      expectStatus(reply, refused ?? (isLong ? 202 : 200), 'a command')
      if (refused !== undefined) return
      const outcome = { ok: 'completed', fails: 'failed', long: 'running' }[kind]
      expect(reply.body.status).toBe(outcome)
      if (!isLong) expect(reply.body.exit_code).toBe(kind === 'ok' ? 0 : 3)
      held(model, name).execs.push({ id: reply.body.exec_id, outcome })
    }),
)

export const cancelExec = fc.record({ name: names, index: fc.nat(9) }).map(
  ({ name, index }) =>
    new Step(
      `cancel a command in ${name} (${index})`,
      async (model, world) => {
        const worker = held(model, name)
        const exec = pick(worker.execs, index)
        const path = `/containers/worker/${name}/exec/${exec.id}`
        const reply = await world.call('DELETE', path)
        expectStatus(reply, 200, 'the end of a command')
        if (exec.outcome === 'running') exec.outcome = 'cancelled'
        expect(reply.body.status).toBe(exec.outcome)
        expectStatus(await world.get(path), 200, 'a command')
      },
      ({ workers }) => (workers.get(name)?.execs.length ?? 0) > 0,
    ),
)

/** Its process is killed, or its container removed, by somebody else. */
export const harmWorker = fc.record({ name: names, isRemoved: fc.boolean() }).map(
  ({ name, isRemoved }) =>
    new Step(
      `${isRemoved ? 'remove' : 'kill'} worker ${name} behind the service`,
      async (model, world) => {
        const { body } = await world.get(`/containers/worker/${name}`)
        if (isRemoved) await world.engine.containers.remove(body.container_id)
        else await world.engine.containers.kill(body.container_id)
        const seen = await eventually(
          world,
          () => world.get(`/containers/worker/${name}`),
          (reply) => reply.body.status === 'failed',
        )
        expect(seen.body.failure?.code).toBe(isRemoved ? 'lost' : 'killed')
        const worker = held(model, name)
        worker.status = 'failed'
        worker.hasContainer = !isRemoved
        model.endExecs(worker)
      },
      ({ workers }) => workers.get(name)?.status === 'running',
    ),
)
