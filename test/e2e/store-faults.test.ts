import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ownedBy } from '../../src/labels.ts'
import { Client, sh, toolRequest } from '../fixtures/client.ts'
import { HTTPD, TOOLBOX } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

const session_id = newSession('store')

/** Calls that make something, each with a key of its own. */
function makingCalls(client: Client) {
  const session = newSession('refused')
  const key = () => ({ 'idempotency-key': newSession('key') })
  const tool = toolRequest({ session_id: session, command: ['true'] })
  return [
    client.post('/containers/tool/execute', tool),
    client.post('/containers/tool/execute', tool, key()),
    client.post('/containers/relic/start', { relic_name: 'r', session_id: session, image: HTTPD }),
    client.post('/containers/worker/start', { worker_id: newSession('w'), session_id: session, image: TOOLBOX }),
    client.send('PUT', `/sessions/${session}`, {}),
  ]
}

/** Kind, name and state of all that the service has on the engine. */
async function world({ engine, instance }: TestService) {
  const ours = ownedBy(instance)
  const [containers, networks, volumes] = await Promise.all([
    engine.containers.list(ours),
    engine.networks.list(ours),
    engine.volumes.list(ownedBy(instance, 'volume')),
  ])
  return [...containers, ...networks, ...volumes].map(({ name }) => name)
}

const disk = mkdtempSync(join(tmpdir(), 'co-full-'))

describe('a store whose disk is full', () => {
  let service: TestService
  let client: Client
  const filler = join(disk, 'filler')

  beforeAll(async () => {
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'none', disk])
    if (mounted.status !== 0) throw new Error(`only root may mount a small disk to fill: ${mounted.stderr}`)
    // Without the reserve, which refuses new work long before.
    service = await startService({ dataDir: disk, environment: { CO_DISK_RESERVE_MB: '0' } })
    client = new Client(service.url)
  })
  afterAll(async () => {
    await service?.stop()
    await service?.destroy().catch(() => {})
    spawnSync('umount', ['--lazy', disk])
    rmSync(disk, { recursive: true, force: true })
  })

  async function fill(): Promise<void> {
    const file = await open(filler, 'w')
    try {
      for (;;) await file.write(Buffer.alloc(4096, 1))
    } catch (error) {
      expect(error).toMatchObject({ code: 'ENOSPC' })
    } finally {
      await file.close()
    }
  }

  it('refuses before anything is made, keeps the end of a run until there is room, and works again then', async () => {
    const { execution_id } = await client.run({
      session_id,
      command: sh('sleep 3; echo finished; exit 4'),
      wait: false,
    })
    const path = `/containers/tool/${execution_id}`
    await expect.poll(async () => (await client.get(path)).body.status, { timeout: 20_000 }).toBe('running')
    const before = await world(service)
    await fill()
    for (const answer of await Promise.all(makingCalls(client))) {
      expect([answer.status, answer.body.code]).toEqual([503, 'disk_low'])
      expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0)
    }
    expect(await world(service)).toEqual(before)
    // Its end is known, and told, while the store still has it running.
    await expect
      .poll(async () => (await client.get(path)).body, { timeout: 20_000 })
      .toMatchObject({ status: 'failed', exit_code: 4, stdout: 'finished\n' })
    await expect
      .poll(() => service.logged().filter(({ event }) => event === 'tool.store_failed').length, { timeout: 10_000 })
      .toBeGreaterThan(1)
    expect(await service.store.tools.get(execution_id)).toMatchObject({ status: 'running', live: true })
    // What could not be stored is still on the engine: a crash now would lose nothing.
    expect(await world(service)).toEqual(before)
    await rm(filler)
    await expect
      .poll(() => service.store.tools.get(execution_id), { timeout: 10_000 })
      .toMatchObject({ status: 'failed', live: false, view: { exit_code: 4, stdout: 'finished\n' } })
    await expect.poll(() => world(service), { timeout: 10_000 }).toEqual([])
    expect(await client.run({ session_id, command: sh('echo again') })).toMatchObject({
      status: 'completed',
      stdout: 'again\n',
    })
  })
})

describe('a store that another process locks', () => {
  let service: TestService
  let client: Client
  let holder: ChildProcess | undefined

  beforeAll(async () => {
    service = await startService()
    client = new Client(service.url)
  })
  afterAll(async () => {
    holder?.kill('SIGKILL')
    await service.destroy()
  })

  async function lock(): Promise<ChildProcess> {
    const script = `import { DatabaseSync } from 'node:sqlite'
      const database = new DatabaseSync(${JSON.stringify(join(service.dataDir, 'store.sqlite'))})
      database.exec('begin immediate')
      console.log('locked')
      setInterval(() => {}, 1000)`
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    await once(child.stdout, 'data')
    return child
  }

  it('is told as unavailable for now; what runs is kept, and all works again once it is free', async () => {
    const { execution_id } = await client.run({ session_id, command: sh('sleep 2; echo kept'), wait: false })
    const path = `/containers/tool/${execution_id}`
    await expect.poll(async () => (await client.get(path)).body.status, { timeout: 20_000 }).toBe('running')
    const before = await world(service)
    holder = await lock()
    const refused = await client.post('/containers/tool/execute', toolRequest({ session_id, command: ['true'] }))
    expect([refused.status, refused.body.code]).toEqual([503, 'store_unavailable'])
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    // What is only read is told all the same.
    expect((await client.get(`/sessions/${session_id}`)).status).toBe(200)
    expect(await world(service)).toEqual(before)
    holder.kill('SIGKILL')
    await once(holder, 'exit')
    await expect
      .poll(() => service.store.tools.get(execution_id), { timeout: 20_000 })
      .toMatchObject({ status: 'completed', view: { stdout: 'kept\n' } })
    expect(await client.run({ session_id, command: sh('echo again') })).toMatchObject({ stdout: 'again\n' })
  })
})
