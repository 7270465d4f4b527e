import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sh } from '../fixtures/client.ts'
import { TOOLBOX } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'
import { WorkerClient } from '../fixtures/workers.ts'

let service: TestService
let client: WorkerClient

beforeAll(async () => {
  service = await startService({ environment: { CO_RETENTION_DAYS: '3', CO_SPOOL_MB: '16' } })
  client = new WorkerClient(service.url)
})
afterAll(() => service.destroy())

const DAY_MS = 86_400_000
/** A look as it will be so many days from now. */
const look = (days: number) => service.services.retention.expire({ now: Date.now() + days * DAY_MS })

describe('what has ended', () => {
  it('is kept for the days that the operator set, and goes then with output and artifacts', async () => {
    const session_id = newSession()
    const run = await client.run({ session_id, command: sh('echo kept; echo x > /output/x') })
    const running = await client.run({ session_id, command: ['sleep', '60'], wait: false })
    const relic = (
      await client.post('/containers/relic/start', {
        relic_name: 'r',
        session_id,
        image: TOOLBOX,
        command: ['sleep', '600'],
        health_check_endpoint: null,
      })
    ).body
    await client.startWorker('lasting')
    const folders = ['spool', 'artifacts'].map((name) => join(service.dataDir, name, run.execution_id))
    expect(await look(2.9)).toEqual({ records: 0, spools: 0, images: 0 })
    expect(folders.map((folder) => existsSync(folder))).toEqual([true, true])

    expect((await look(3.1)).records).toBe(1)
    expect(folders.map((folder) => existsSync(folder))).toEqual([false, false])
    expect((await client.get(`/containers/tool/${run.execution_id}`)).status).toBe(404)
    // What lives is as old, and stays.
    expect((await client.get(`/containers/tool/${running.execution_id}`)).body.status).toBe('running')
    expect((await client.get(`/containers/relic/${relic.relic_id}`)).body.status).toBe('healthy')
    expect((await client.get('/containers/worker/lasting')).body.status).toBe('running')
    await client.delete('/containers/worker/lasting')
    await client.post('/containers/cleanup/session', { session_id, force: true })
    expect((await look(3.1)).records).toBe(3)
  })

  it('keeps its record, without its output, where all output is more than its bound', async () => {
    const session_id = newSession()
    const print = sh('head -c 9000000 /dev/zero | tr "\\0" x')
    const runs = []
    for (let count = 0; count < 3; count++) runs.push(await client.run({ session_id, command: print }))
    expect((await look(0)).spools).toBe(2)
    const sizes = await Promise.all(
      runs.map(async ({ execution_id }) => (await client.get(`/containers/tool/${execution_id}/logs`)).text.length),
    )
    expect(sizes).toEqual([0, 0, 9_000_000])
    expect((await client.get(`/containers/tool/${runs[0].execution_id}`)).body).toMatchObject({
      status: 'completed',
      stdout_bytes: 9_000_000,
    })
  })

  it('takes the images with it that requests had built, but for those in use', async () => {
    const session_id = newSession()
    const dockerfile = (text: string) => `FROM container-orchestrator/toolbox:1\nENV TEXT=${text}`
    const build = (text: string, more: object) =>
      client.run({ session_id, dockerfile: dockerfile(text), command: ['true'], ...more })
    const [old, used] = [await build('old', {}), await build('used', { cleanup: false })]
    const present = async () =>
      Promise.all(
        [old, used].map(async ({ image_id }) => (await service.engine.images.inspect(image_id)) !== undefined),
      )
    expect((await look(2.9)).images).toBe(0)
    expect(await present()).toEqual([true, true])
    expect((await look(3.1)).images).toBe(1)
    expect(await present()).toEqual([false, true])
    await client.post('/containers/cleanup/session', { session_id, force: true })
    expect(await present()).toEqual([false, false])
    // A run that kept its container is kept itself as long as that, and no longer.
    expect((await client.get(`/containers/tool/${used.execution_id}`)).status).toBe(200)
    await service.services.reconciler.reconcile({ graceMs: 0 })
    await look(3.1)
    expect((await client.get(`/containers/tool/${used.execution_id}`)).status).toBe(404)
  })
})
