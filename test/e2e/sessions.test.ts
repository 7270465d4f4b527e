import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Client, sh, toolRequest } from '../fixtures/client.ts'
import { leastContainer } from '../fixtures/container-spec.ts'
import { HTTPD, TOOLBOX } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

let service: TestService
let client: Client

beforeAll(async () => {
  service = await startService()
  client = new Client(service.url)
})
afterAll(() => service.destroy())

const relic = (session_id: string, relic_name: string, more: object = {}) =>
  client.post('/containers/relic/start', { relic_name, session_id, image: HTTPD, ...more })

/** A container that another program made, with whatever labels. */
async function decoy(labels: Record<string, string>): Promise<string> {
  const image = await service.engine.images.inspect(TOOLBOX)
  const id = await service.engine.containers.create(
    leastContainer({ name: newSession('decoy'), imageId: image?.id ?? '', command: ['sleep', '600'], labels }),
  )
  await service.engine.containers.start(id)
  return id
}

describe('cleanup of a session', () => {
  it('ends tools, relics, network and volumes in one call, and does nothing when repeated', async () => {
    const session_id = newSession()
    await relic(session_id, 'a')
    await relic(session_id, 'b', { volumes: [{ source: 'data', target: '/data', read_only: false }] })
    const tool = await client.run({ session_id, command: ['sleep', '600'], wait: false })
    await expect
      .poll(async () => (await client.get(`/containers/tool/${tool.execution_id}`)).body.status, { timeout: 10_000 })
      .toBe('running')

    const plan = await client.post('/containers/cleanup/session', { session_id, dry_run: true })
    expect(plan.body).toEqual({
      containers_removed: 3,
      networks_removed: 1,
      volumes_removed: 1,
      tools_cancelled: 1,
      errors: [],
    })
    expect(await service.services.docker.list({ session: session_id })).toHaveLength(3)

    const done = await client.post('/containers/cleanup/session', { session_id, force: true })
    expect(done.status).toBe(200)
    expect(done.body).toEqual(plan.body)
    expect(await service.services.docker.list({ session: session_id })).toHaveLength(0)
    expect(await service.services.networks.get(session_id)).toBeUndefined()
    expect((await client.get(`/containers/tool/${tool.execution_id}`)).body).toMatchObject({ status: 'cancelled' })
    expect((await client.get(`/sessions/${session_id}`)).status).toBe(404)

    const again = await client.delete(`/sessions/${session_id}?force=true`)
    expect(again.body).toEqual({
      containers_removed: 0,
      networks_removed: 0,
      volumes_removed: 0,
      tools_cancelled: 0,
      errors: [],
    })
  })

  it('asks containers to stop where it is not forced', async () => {
    const session_id = newSession()
    const command = sh(
      'trap "echo bye > /data/told; exit 0" TERM; (httpd -f -p 8000 -h /www &) ; while :; do sleep 0.05; done',
    )
    await relic(session_id, 'polite', { command, volumes: [{ source: 'data', target: '/data', read_only: false }] })
    const report = client.post('/containers/cleanup/session', { session_id })
    expect((await report).body).toMatchObject({ containers_removed: 1, volumes_removed: 1, errors: [] })
  })

  it('spares containers of others, whatever labels they carry', async () => {
    const session_id = newSession()
    await relic(session_id, 'mine')
    const foreign = [
      await decoy({}),
      await decoy({
        'container-orchestrator.instance': 'another',
        'container-orchestrator.kind': 'relic',
        'container-orchestrator.id': 'x',
        'container-orchestrator.session': session_id,
        'container-orchestrator.nonce': 'n',
      }),
      await decoy({
        'container-orchestrator.instance': `${service.instance}x`,
        'container-orchestrator.session': session_id,
      }),
      await decoy({ 'container-orchestrator.session': session_id }),
    ]
    try {
      const stats = await client.get('/containers/stats')
      expect(stats.body.items.map((item: { container_id: string }) => item.container_id)).not.toEqual(
        expect.arrayContaining(foreign),
      )
      for (const id of foreign) expect((await client.get(`/containers/stats/${id}`)).status).toBe(404)
      expect(
        (await client.post('/containers/cleanup/session', { session_id, force: true })).body.containers_removed,
      ).toBe(1)
      await client.post('/containers/cleanup/orphans', {})
      await client.post('/containers/cleanup/all-networks', { force: true })
      for (const id of foreign) expect((await service.engine.containers.inspect(id))?.status).toBe('running')
    } finally {
      for (const id of foreign) await service.engine.containers.remove(id)
    }
  })

  it('refuses reserved labels, and lets no image label pass for ours', async () => {
    const spoofed = await client.post(
      '/containers/tool/execute',
      toolRequest({ command: ['true'], labels: { 'container-orchestrator.session': 'x' } }),
    )
    expect([spoofed.status, spoofed.body.code]).toEqual([403, 'policy_denied'])
    const session_id = newSession()
    const run = await client.run({
      session_id,
      dockerfile: `FROM ${TOOLBOX}\nLABEL container-orchestrator.session=victim container-orchestrator.instance=other mine=yes\n`,
      command: ['true'],
      cleanup: false,
      labels: { team: 'red' },
    })
    expect(run.status, JSON.stringify(run.failure)).toBe('completed')
    const state = await service.engine.containers.inspect(run.container_id)
    expect(state?.labels).toMatchObject({
      'container-orchestrator.session': session_id,
      'container-orchestrator.instance': service.instance,
      team: 'red',
    })
    expect((await client.post('/containers/cleanup/session', { session_id })).body.containers_removed).toBe(1)
    expect(await service.engine.images.list({ 'container-orchestrator.instance': service.instance })).toEqual([])
  })

  it('cleans up a session while a relic of it is starting', async () => {
    const session_id = newSession()
    const starting = relic(session_id, 'slow', { image: TOOLBOX, command: ['sleep', '600'] })
    await expect
      .poll(async () => (await service.services.docker.list({ session: session_id })).length, { timeout: 10_000 })
      .toBe(1)
    const report = await client.post('/containers/cleanup/session', { session_id, force: true })
    expect(report.body.errors).toEqual([])
    expect((await starting).status).toBe(409)
    expect(await service.services.docker.list({ session: session_id })).toHaveLength(0)
    expect(await service.services.networks.get(session_id)).toBeUndefined()
  })
})

describe('sessions', () => {
  it('tells what a session has', async () => {
    const session_id = newSession()
    const web = (await relic(session_id, 'web')).body
    const run = await client.run({ session_id, command: ['true'] })
    await service.services.docker.settled()
    const session = await client.get(`/sessions/${session_id}`)
    expect(session.body).toMatchObject({
      session_id,
      workers: [],
      network: { name: `session_${session_id}`, subnet: expect.stringMatching(/\/27$/) },
    })
    expect(session.body.tools.map((tool: { execution_id: string }) => tool.execution_id)).toEqual([run.execution_id])
    expect(session.body.relics.map((item: { relic_id: string }) => item.relic_id)).toEqual([web.relic_id])
    expect(session.body.usage).toMatchObject({ containers: 1, running: 1 })
    const listed = (await client.get('/sessions')).body.items.find(
      (item: { session_id: string }) => item.session_id === session_id,
    )
    expect(listed).toMatchObject({ tools: { total: 1, active: 0 }, relics: { total: 1, active: 1 } })
    await client.delete(`/sessions/${session_id}?force=true`)
  })

  it('gives 40 sessions a network each at once, and removes all networks without containers', {
    timeout: 120_000,
  }, async () => {
    const ids = Array.from({ length: 40 }, () => newSession('many'))
    const networks = await Promise.all(ids.map((id) => service.services.networks.ensure(id)))
    expect(new Set(networks.map((network) => network.subnet)).size).toBe(40)
    const used = newSession()
    await relic(used, 'web')
    const report = await client.post('/containers/cleanup/all-networks', {})
    expect(report.body).toMatchObject({ networks_removed: 40, errors: [] })
    expect(await service.services.networks.get(used)).toBeDefined()
    await client.post('/containers/cleanup/session', { session_id: used, force: true })
  })
})

describe('orphans', () => {
  it('removes what no record claims, and only tells of it in a dry run', async () => {
    const labels = (id: string) => ({
      'container-orchestrator.instance': service.instance,
      'container-orchestrator.kind': 'tool',
      'container-orchestrator.id': id,
      'container-orchestrator.session': 'gone',
      'container-orchestrator.nonce': id,
    })
    const orphan = await decoy(labels('exec_unknown'))
    const { sweep } = service.services.reconciler
    const run = (dryRun: boolean) => sweep.call(service.services.reconciler, { dryRun, graceMs: 0 })
    expect(await run(true)).toMatchObject({ containers_removed: 1 })
    expect((await service.engine.containers.inspect(orphan))?.status).toBe('running')
    // The route spares what is younger than a minute: it may be in the making.
    expect((await client.post('/containers/cleanup/orphans', { dry_run: true })).body.containers_removed).toBe(0)
    expect(await run(false)).toMatchObject({ containers_removed: 1 })
    expect(await service.engine.containers.inspect(orphan)).toBeUndefined()
  })
})
