import fc from 'fast-check'
import { expect } from 'vitest'
import { decodeLabels, ownedBy } from '../../../src/labels.ts'
import { type Model, SESSIONS, sessionOf } from './model.ts'
import { compareDecoys } from './observe.ts'
import { expectStatus, Step } from './step.ts'
import type { World } from './world.ts'

const CLEANUP = '/containers/cleanup/session'
const sessions = fc.constantFrom(...SESSIONS)

const nothing = { containers_removed: 0, networks_removed: 0, volumes_removed: 0, tools_cancelled: 0, errors: [] }

export const putSession = fc
  .record({
    session: sessions,
    ttl_seconds: fc.constantFrom(null, 3600),
    idle_timeout_seconds: fc.constantFrom(null, 3600),
  })
  .map(
    ({ session, ...lifetime }) =>
      new Step(`put session ${SESSIONS.indexOf(session)} ${JSON.stringify(lifetime)}`, async (model, world) => {
        const reply = await world.call('PUT', `/sessions/${session}`, lifetime)
        expectStatus(reply, 200, 'the renewal of a session')
        expect(reply.body).toMatchObject(lifetime)
        expect(reply.body.expires_at === null).toBe(lifetime.ttl_seconds === null)
        model.touch(session)
      }),
  )

export const readSession = sessions.map(
  (session) =>
    new Step(`read session ${SESSIONS.indexOf(session)}`, async (model, world) => {
      const reply = await world.get(`/sessions/${session}`)
      expectStatus(reply, model.sessions.has(session) ? 200 : 404, 'a session')
      if (reply.status === 404) return
      const { relics, workers, tools, usage } = reply.body
      const of = <T extends { session: string }>(all: Iterable<T>) =>
        [...all].filter((each) => each.session === session)
      expect(relics).toHaveLength(of(model.relics.values()).length)
      expect(tools).toHaveLength(of(model.tools.values()).length)
      expect(workers).toHaveLength([...model.workers.keys()].filter((name) => sessionOf(name) === session).length)
      expect(usage.containers).toBe((await containersIn(world, session)).length)
    }),
)

export const readService = fc.constant(null).map(
  () =>
    new Step('read health, stats and an unknown of each kind', async (model, world) => {
      const health = await world.get('/health')
      expectStatus(health, 200, 'the health of the service')
      expect(health.body.counts).toMatchObject({ sessions: model.sessions.size })
      const stats = await world.get('/containers/stats?kind=worker')
      expect(stats.body.totals.containers).toBe([...model.workers.values()].filter((each) => each.hasContainer).length)
      for (const path of ['tool/exec_none', 'relic/relic_none', 'worker/none', 'stats/none'])
        expectStatus(await world.get(`/containers/${path}`), 404, path)
    }),
)

export const cleanUpSession = fc
  .record({ session: sessions, force: fc.boolean(), isDeleted: fc.boolean() })
  .map(
    ({ session, force, isDeleted }) =>
      new Step(`clean up session ${SESSIONS.indexOf(session)} ${force ? 'by force' : 'with grace'}`, (model, world) =>
        cleanUp(model, world, { session, force, isDeleted }),
      ),
  )

export async function cleanUp(
  model: Model,
  world: World,
  { session, force, isDeleted }: { session: string; force: boolean; isDeleted: boolean },
): Promise<void> {
  await world.settled()
  const wanted = await expected(model, world, session)
  const reply = isDeleted
    ? await world.call('DELETE', `/sessions/${session}?force=${force}`)
    : await world.post(CLEANUP, { session_id: session, force })
  expectStatus(reply, 200, 'a cleanup')
  // The volumes of a worker go with it.
  const own = [...model.volumes].filter((volume) => volume.startsWith(`${session}/`)).length
  expect(reply.body).toEqual({ ...wanted, volumes_removed: own })
  model.forgetSession(session)
  const again = await world.post(CLEANUP, { session_id: session, force })
  expect(again.body, 'a cleanup that is repeated').toEqual(nothing)
}

export const dryRunCleanup = sessions.map(
  (session) =>
    new Step(`dry run of a cleanup of session ${SESSIONS.indexOf(session)}`, async (model, world) => {
      await world.settled()
      const wanted = await expected(model, world, session)
      const reply = await world.post(CLEANUP, { session_id: session, dry_run: true })
      expectStatus(reply, 200, 'the dry run of a cleanup')
      expect(reply.body).toEqual(wanted)
    }),
)

/** What a cleanup of a session is to tell. */
async function expected(model: Model, world: World, session: string): Promise<typeof nothing> {
  const containers = await containersIn(world, session)
  const waiting = model.active.filter((tool) => tool.session === session).length
  const volumes = [...model.volumes].filter((volume) => {
    const worker = [...model.workers.keys()].find((name) => volume === `worker ${name}`)
    return volume.startsWith(`${session}/`) || (worker !== undefined && sessionOf(worker) === session)
  })
  return {
    containers_removed: containers.length,
    networks_removed: model.sessions.get(session)?.network ? 1 : 0,
    volumes_removed: volumes.length,
    tools_cancelled: waiting,
    errors: [],
  }
}

/** By the engine's word: which of several tools wait for their turn is not the model's to say. */
async function containersIn(world: World, session: string): Promise<string[]> {
  const containers = await world.engine.containers.list(ownedBy(world.instance, undefined, session))
  return containers.filter(({ labels }) => decodeLabels(labels)?.kind !== 'toolbox').map(({ id }) => id)
}

/** What is younger than a minute may be in the making, and stays. */
export const cleanUpOrphans = fc.boolean().map(
  (dry_run) =>
    new Step(`clean up orphans${dry_run ? ' (dry run)' : ''}`, async (_model, world) => {
      await world.settled()
      const reply = await world.post('/containers/cleanup/orphans', { dry_run })
      expectStatus(reply, 200, 'a cleanup of orphans')
      expect(reply.body).toEqual(nothing)
    }),
)

export const plantOrphan = fc.constant(null).map(
  () =>
    new Step('put a container on the engine that no record claims', async (model, world) => {
      model.orphans.add(await world.plantOrphan())
    }),
)

/** The service ends and starts again, with the same data and on the same engine. */
export const restartService = fc.constant(null).map(() => new Step('restart the service', restart))

export async function restart(model: Model, world: World): Promise<void> {
  await world.stop()
  await world.start()
  await compareDecoys(world)
  model.orphans.clear()
  for (const worker of model.workers.values()) {
    model.endExecs(worker)
    worker.isHeld = worker.hasContainer
  }
}
