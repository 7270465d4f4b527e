import fc from 'fast-check'
import { expect } from 'vitest'
import { TOOLBOX, UNREACHABLE } from '../../fixtures/images.ts'
import { type Model, RELICS, type Relic, SESSIONS } from './model.ts'
import { answeredByKey, expectStatus, keyHeader, keys, LONG, pick, Step } from './step.ts'
import { eventually, type World } from './world.ts'

const START = '/containers/relic/start'
const KINDS = ['steady', 'steady', 'steady', 'deaf', 'missing image', 'without network'] as const
type Kind = (typeof KINDS)[number]

interface Start {
  session: string
  name: string
  kind: Kind
  volume: boolean
  key: string | undefined
}

const starts: fc.Arbitrary<Start> = fc.record({
  session: fc.constantFrom(...SESSIONS),
  name: fc.constantFrom(...RELICS),
  kind: fc.constantFrom(...KINDS),
  volume: fc.boolean(),
  key: keys,
})

export const startRelic = starts.map(
  (start) =>
    new Step(`start relic ${JSON.stringify({ ...start, session: SESSIONS.indexOf(start.session) })}`, (model, world) =>
      startOne(model, world, start),
    ),
)

export function relicBody(session: string, name: string, kind: Kind = 'steady', volume = false): object {
  return {
    relic_name: name,
    session_id: session,
    image: kind === 'missing image' ? UNREACHABLE : TOOLBOX,
    command: LONG,
    ...(kind === 'deaf' ? { health_check_timeout_seconds: 0.1 } : { health_check_endpoint: null }),
    ...(kind === 'without network' ? { create_private_network: false } : {}),
    ...(volume && kind === 'steady' ? { volumes: [{ source: 'data', target: '/data', read_only: false }] } : {}),
    // What ends is told at once.
    restart_policy: { max_retries: 0 },
  }
}

async function startOne(model: Model, world: World, { session, name, kind, volume, key }: Start): Promise<void> {
  const body = relicBody(session, name, kind, volume)
  const refused = kind === 'without network' && !model.sessions.get(session)?.network
  // What is refused before it begins gives its key back; that is not modelled for the one that is refused later.
  const usedKey = refused ? undefined : key
  if (await answeredByKey(model, world, usedKey, { path: START, body })) return
  const twin = model.twinOf(session, name)
  const reply = await world.post(START, body, keyHeader(usedKey))
  if (twin !== undefined) {
    expectStatus(reply, 409, 'a relic of a name that is taken')
    return
  }
  const failing = { deaf: 504, 'missing image': world.subject.unpullable === 'pull_failed' ? 502 : 422 }
  const status = kind === 'deaf' || kind === 'missing image' ? failing[kind] : refused ? 409 : 201
  expectStatus(reply, status, `a relic (${kind})`)
  const row = model.touch(session)
  if (kind !== 'without network') row.network = true
  if (volume && kind === 'steady') model.volumes.add(`${session}/data`)
  const id: string = status === 201 ? reply.body.relic_id : reply.body.instance.split('/').at(-1)
  model.relics.set(id, {
    id,
    session,
    name,
    status: status === 201 ? 'healthy' : 'failed',
    restarts: 0,
    hasContainer: status === 201,
  })
  if (usedKey === undefined) return
  model.keys.set(usedKey, { path: START, body, status, idField: 'relic_id', id: status === 201 ? id : undefined })
}

/** One of the relics that there are. */
function onRelic(
  label: string,
  work: (relic: Relic, model: Model, world: World) => Promise<void>,
  isPossible: (relic: Relic) => boolean = () => true,
): fc.Arbitrary<Step> {
  const suited = (model: Model) => [...model.relics.values()].filter(isPossible)
  return fc.nat(9).map(
    (index) =>
      new Step(
        `${label} (${index})`,
        (model, world) => work(pick(suited(model), index), model, world),
        (model) => suited(model).length > 0,
      ),
  )
}

export const stopRelic = onRelic('stop a relic', async (relic, _model, world) => {
  const reply = await world.post(`/containers/relic/${relic.id}/stop`, { timeout_seconds: 0 })
  expectStatus(reply, 200, 'the stop of a relic')
  if (relic.status === 'healthy') relic.status = 'stopped'
  expect(reply.body.status).toBe(relic.status)
})

export const restartRelic = onRelic('restart a relic', async (relic, model, world) => {
  const reply = await world.post(`/containers/relic/${relic.id}/restart`)
  if (!relic.hasContainer || model.twinOf(relic.session, relic.name, relic.id) !== undefined) {
    expectStatus(reply, 409, 'the restart of a relic without a container or a name')
    return
  }
  expectStatus(reply, 200, 'the restart of a relic')
  relic.status = 'healthy'
  relic.restarts += 1
})

export const deleteRelic = onRelic('delete a relic', async (relic, model, world) => {
  expectStatus(await world.call('DELETE', `/containers/relic/${relic.id}`), 204, 'the deletion of a relic')
  model.relics.delete(relic.id)
  model.deletedRelics.push(relic.id)
})

export const readRelic = onRelic('read a relic', async (relic, model, world) => {
  const reply = await world.get(`/containers/relic/${relic.id}`)
  expectStatus(reply, 200, 'a relic')
  expect(reply.body.container_id !== null).toBe(relic.hasContainer)
  const health = await world.get(`/containers/relic/${relic.id}/health`)
  expectStatus(health, 200, 'the health of a relic')
  expect(health.body).toMatchObject({ status: relic.status, healthy: relic.status === 'healthy' })
  expectStatus(await world.get(`/containers/relic/${relic.id}/logs`), 200, 'the log of a relic')
  const { body } = await world.get(`/containers/relic?session_id=${relic.session}&relic_name=${relic.name}&limit=1000`)
  const namesakes = [...model.relics.values()].filter(
    ({ session, name }) => session === relic.session && name === relic.name,
  )
  expect(body.items).toHaveLength(namesakes.length)
})

export const useDeletedRelic = fc.nat(9).map(
  (index) =>
    new Step(
      `use a deleted relic (${index})`,
      async ({ deletedRelics }, world) => {
        const path = `/containers/relic/${pick(deletedRelics, index)}`
        expectStatus(await world.get(path), 404, 'a deleted relic')
        expectStatus(await world.post(`${path}/stop`), 404, 'the stop of a deleted relic')
        expectStatus(await world.post(`${path}/restart`), 404, 'the restart of a deleted relic')
        expectStatus(await world.call('DELETE', path), 204, 'the repeated deletion of a relic')
      },
      ({ deletedRelics }) => deletedRelics.length > 0,
    ),
)

/** Its process is killed, or its container removed, by somebody else. */
export const harmRelic = fc.boolean().chain((isRemoved) =>
  onRelic(
    isRemoved ? 'remove a relic behind the service' : 'kill a relic behind the service',
    async (relic, _model, world) => {
      const { body } = await world.get(`/containers/relic/${relic.id}`)
      if (isRemoved) await world.engine.containers.remove(body.container_id)
      else await world.engine.containers.kill(body.container_id)
      const seen = await eventually(
        world,
        () => world.get(`/containers/relic/${relic.id}`),
        (reply) => reply.body.status === 'failed',
      )
      expect(seen.body.failure?.code).toBe(isRemoved ? 'lost' : 'killed')
      relic.status = 'failed'
      relic.hasContainer = !isRemoved
    },
    ({ status }) => status === 'healthy',
  ),
)
