/**
 * Two services on one engine: one data folder has one owner, and two installations that use the same
 * names do not see, stop or remove what is the other's, nor what is nobody's.
 *
 * FAULTS_DECOYS sets how many foreign things lie about (50; a thousand with `--full`).
 */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { ownedBy } from '../../src/labels.ts'
import { HTTPD, TOOLBOX } from '../fixtures/images.ts'
import { report } from '../support/report.ts'
import { Decoys } from './decoys.ts'
import { type Installation, install, leftOf, uninstall } from './installation.ts'
import { KillableService } from './killable-service.ts'
import type { ServiceClient } from './service-client.ts'

const DECOYS = Number(process.env['FAULTS_DECOYS'] ?? 50)
const names = {
  session: `twins-${randomUUID().slice(0, 8)}`,
  relic: 'web',
  worker: `twin-${randomUUID().slice(0, 8)}`,
}

let engine: DockerEngine
const installations: Installation[] = []

beforeAll(async () => {
  engine = await DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' })
})
afterAll(async () => {
  for (const installation of installations) await uninstall(installation, engine)
  await engine?.close()
})

describe('one data folder', () => {
  it('refuses a second service, says why, and leaves the first at work', async () => {
    const first = await installed('10.195.0.0/20')
    const { client, folder } = first
    const running = await client.execute(names.session, 'sleep 2; echo whole', { wait: false })
    const second = await KillableService.create({ CO_DATA_DIR: folder, CO_LOG_LEVEL: 'warn' })
    await expect(second.start()).rejects.toThrow(/the service ended with 1/)
    expect(second.log).toContain(`CO_DATA_DIR=${folder}: another instance of this service works with it`)
    expect(await client.ended(running.execution_id)).toMatchObject({ status: 'completed', stdout: 'whole\n' })
    expect(await client.execute(names.session, 'echo after')).toMatchObject({ stdout: 'after\n' })
    await client.ask('/containers/cleanup/session', { session_id: names.session, force: true })
    expect(await leftOf(first, engine)).toEqual([])
    await first.service.kill()
  })
})

describe('two installations with the same names on one engine', () => {
  let one: Installation
  let two: Installation
  let decoys: Decoys

  beforeAll(async () => {
    // From one range: an engine gives each address once, whoever asks.
    one = await installed('10.195.16.0/20')
    two = await installed('10.195.16.0/20')
    const image = await engine.images.inspect(TOOLBOX)
    decoys = await Decoys.make({
      engine,
      imageId: image?.id ?? '',
      count: DECOYS,
      names,
      instances: [one.instance, two.instance],
    })
  }, 300_000)
  afterAll(async () => {
    await decoys?.remove()
  }, 300_000)

  it('both run tools with volumes and on the session network, relics and workers', async () => {
    const problems = await Promise.all(
      [one, two].map(async ({ client, instance }) => [
        ...(await attempt(`${instance}: tool with a volume`, () => writeAndRead(client, instance))),
        ...(await attempt(`${instance}: tool on the session network`, () =>
          client.execute(names.session, 'echo on', { network_mode: 'session' }).then(completed),
        )),
        ...(await attempt(`${instance}: relic`, () =>
          client.ask('/containers/relic/start', { relic_name: names.relic, session_id: names.session, image: HTTPD }),
        )),
        ...(await attempt(`${instance}: worker`, () =>
          client.ask('/containers/worker/start', {
            worker_id: names.worker,
            session_id: names.session,
            image: TOOLBOX,
            network: 'session',
          }),
        )),
        ...(await attempt(`${instance}: worker on the internal bridge`, () =>
          client.ask('/containers/worker/start', { worker_id: `${names.worker}-b`, image: TOOLBOX }),
        )),
      ]),
    )
    expect(problems.flat()).toEqual([])
  })

  it('each tells only what is its own', async () => {
    for (const { client, instance } of [one, two]) {
      const mine = new Set((await engine.containers.list(ownedBy(instance))).map(({ id }) => id))
      const told = [
        ...(await client.all('/containers/relic')),
        ...(await client.all('/containers/worker')),
        ...(await client.get('/containers/stats')).body.items,
      ]
      expect(told.length).toBeGreaterThan(0)
      expect(told.filter(({ container_id }) => container_id !== null && !mine.has(container_id))).toEqual([])
      expect((await client.all('/sessions')).map(({ session_id }) => session_id)).toEqual([names.session])
    }
    for (const [asked, other] of [
      [one, two],
      [two, one],
    ] as const) {
      for (const { execution_id } of await other.client.all('/containers/tool'))
        expect((await asked.client.get(`/containers/tool/${execution_id}`)).status).toBe(404)
      for (const { relic_id } of await other.client.all('/containers/relic'))
        expect((await asked.client.post(`/containers/relic/${relic_id}/stop`)).status).toBe(404)
    }
  })

  it('neither sweeps nor cleans up what is the other’s', async () => {
    const before = await ownedOf(two)
    const healthy = await healthyOf(two)
    for (const work of [
      () => one.client.ask('/containers/cleanup/orphans', {}),
      () => one.client.ask('/containers/cleanup/all-networks', { force: false }),
      () => one.client.ask('/containers/cleanup/session', { session_id: names.session, force: true }),
      () => one.client.delete(`/containers/worker/${names.worker}-b`),
      () => one.client.ask('/containers/cleanup/all-networks', { force: true }),
      () => one.client.ask('/containers/cleanup/orphans', {}),
    ]) {
      const report = await work()
      expect(report.errors ?? []).toEqual([])
      expect(await ownedOf(two)).toEqual(before)
    }
    expect(await decoys.missing()).toEqual([])
    expect(await healthyOf(two)).toEqual(healthy)
  })

  it('a restart after a crash recovers and sweeps its own alone', async () => {
    const before = await ownedOf(two)
    const healthy = await healthyOf(two)
    await one.service.kill()
    await one.service.start()
    expect(await ownedOf(two)).toEqual(before)
    await two.service.kill()
    await two.service.start()
    expect(await healthyOf(two)).toEqual(healthy)
    expect(await decoys.missing()).toEqual([])
  })

  it(`spares ${DECOYS} decoys to the last`, async () => {
    for (const { client } of [two, one]) {
      await client.ask('/containers/cleanup/session', { session_id: names.session, force: true })
      for (const worker of ['', '-b']) await client.delete(`/containers/worker/${names.worker}${worker}`)
      await client.ask('/containers/cleanup/all-networks', { force: true })
      await client.ask('/containers/cleanup/orphans', {})
    }
    for (const installation of [one, two]) expect(await leftOf(installation, engine)).toEqual([])
    expect(await decoys.missing()).toEqual([])
    expect(decoys.count).toBe(DECOYS)
    await report('Two instances on one engine', { decoys: DECOYS, 'foreign deletions': 0, leaks: 0 })
  })
})

async function installed(range: string): Promise<Installation> {
  const installation = await install({ CO_SESSION_SUBNETS: range })
  installations.push(installation)
  return installation
}

/** Each keeps what it wrote: a volume of one name is two volumes. */
async function writeAndRead(client: ServiceClient, instance: string): Promise<void> {
  const volumes = [{ source: 'ledger', target: '/ledger', read_only: false }]
  completed(await client.execute(names.session, `echo ${instance} >> /ledger/who`, { volumes }))
  const read = await client.execute(names.session, 'cat /ledger/who', { volumes })
  expect(read.stdout).toBe(`${instance}\n`)
}

function completed(run: { status: string; failure: unknown }): void {
  if (run.status !== 'completed') throw new Error(JSON.stringify(run.failure))
}

async function attempt(what: string, work: () => Promise<unknown>): Promise<string[]> {
  try {
    await work()
    return []
  } catch (error) {
    return [`${what}: ${error instanceof Error ? error.message : String(error)}`]
  }
}

/** Its relics that answer, and its workers that run a command. */
async function healthyOf({ client }: Installation): Promise<string[]> {
  const relics = await client.all('/containers/relic')
  const workers = (await client.all('/containers/worker')).filter(({ status }) => status === 'running')
  for (const { worker_id } of workers) {
    const { status } = await client.ask(`/containers/worker/${worker_id}/exec`, { command: 'true', working_dir: '/' })
    expect(status).toBe('completed')
  }
  const answering = relics.filter(({ status }) => status === 'healthy').map(({ relic_id }) => relic_id)
  return [...answering, ...workers.map(({ worker_id }) => worker_id)].toSorted()
}

/** What an installation has on the engine, with what runs of it. */
async function ownedOf({ instance }: Installation): Promise<string[]> {
  const owned = ownedBy(instance)
  const [containers, networks, volumes] = await Promise.all([
    engine.containers.list(owned),
    engine.networks.list(owned),
    engine.volumes.list(owned),
  ])
  const attached = await Promise.all(networks.map(({ id }) => engine.networks.inspect(id)))
  return [
    ...containers.map(({ id, status }) => `container ${id} ${status}`),
    ...attached.map((network) => `network ${network?.id} ${network?.containers.toSorted().join()}`),
    ...volumes.map(({ name }) => `volume ${name}`),
  ].toSorted()
}
