import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Client } from '../fixtures/client.ts'
import { TOOLBOX } from '../fixtures/images.ts'
import { type Registry, startRegistry } from '../fixtures/registry.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

let registry: Registry
let service: TestService
let client: Client
let reference: string

beforeAll(async () => {
  registry = await startRegistry()
  reference = await registry.offer(TOOLBOX, `tools/${newSession('echo').toLowerCase()}:1`)
  service = await startService({ environment: { CO_ALLOWED_IMAGES: `${registry.host}/tools/*` } })
  client = new Client(service.url)
})
afterAll(async () => {
  await service.engine.images.remove(reference)
  await service.destroy()
  await registry[Symbol.asyncDispose]()
})

describe('images of a registry', () => {
  it('are pulled when they are missing, once for all who wait, with progress in the log', async () => {
    expect(await service.engine.images.inspect(reference)).toBeUndefined()
    const before = registry.pulls()
    const runs = await Promise.all(
      Array.from({ length: 6 }, (_, index) =>
        client.run({ session_id: newSession(), image: reference, command: ['echo', String(index)] }),
      ),
    )
    expect(runs.map((run) => run.stdout)).toEqual(runs.map((_, index) => `${index}\n`))
    await expect.poll(() => registry.pulls() - before).toBe(1)
    const events = service.logged().filter((line) => line['image'] === reference)
    expect(events.filter((line) => line['event'] === 'image.pull_started')).toHaveLength(1)
    expect(events.filter((line) => line['event'] === 'image.pulled')).toHaveLength(1)
    expect(events.some((line) => line['event'] === 'image.pull_progress')).toBe(true)
    await client.run({ session_id: newSession(), image: reference, command: ['true'] })
    expect(registry.pulls() - before).toBe(1)
  })

  it('that the registry does not have are told as not found', async () => {
    const absent = `${registry.host}/tools/absent:1`
    const run = await client.run({ image: absent, command: ['true'] })
    expect(run).toMatchObject({ status: 'failed', failure: { code: 'image_not_found', hint: expect.any(String) } })
    const relic = await client.post('/containers/relic/start', {
      relic_name: 'r',
      session_id: newSession(),
      image: absent,
    })
    expect([relic.status, relic.body.code]).toEqual([422, 'image_not_found'])
  })

  it('that the operator does not allow are refused before anything is pulled', async () => {
    const before = registry.pulls()
    for (const image of [TOOLBOX, `${registry.host}/other/echo:1`]) {
      const answer = await client.post('/containers/tool/execute', {
        tool_name: 't',
        session_id: 's',
        image,
        command: ['true'],
      })
      expect([answer.status, answer.body.code]).toEqual([403, 'policy_denied'])
    }
    const base = await client.post('/containers/tool/execute', {
      tool_name: 't',
      session_id: 's',
      dockerfile: `FROM ${TOOLBOX}`,
    })
    expect(base.body.code).toBe('policy_denied')
    expect(registry.pulls()).toBe(before)
  })
})
