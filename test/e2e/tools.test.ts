import { describe, expect, it } from 'vitest'
import { Client, sh, toolRequest } from '../fixtures/client.ts'
import { startService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'
import { toolSetting } from '../fixtures/tool-setting.ts'
import { describeManyAtOnce } from './load-suite.ts'
import { describeRuns } from './runs-suite.ts'

const setting = toolSetting('cold')
describeRuns(setting)
describeManyAtOnce(setting)

describe('a run that waits for its turn', () => {
  it('never starts once it is cancelled', async () => {
    await using narrow = await startService({ environment: { CO_MAX_CONCURRENT_RUNS: '1', CO_QUEUE_LIMIT: '1' } })
    const caller = new Client(narrow.url)
    const first = await caller.run({ command: ['sleep', '600'], wait: false })
    await expect
      .poll(async () => (await caller.get(`/containers/tool/${first.execution_id}`)).body.status, { timeout: 10_000 })
      .toBe('running')
    const second = await caller.run({ command: ['true'], wait: false })
    const full = await caller.post('/containers/tool/execute', toolRequest({ command: ['true'] }))
    expect(full.status).toBe(429)
    expect(full.body.code).toBe('queue_full')
    expect(Number(full.headers.get('retry-after'))).toBeGreaterThan(0)
    const cancelled = await caller.post(`/containers/tool/${second.execution_id}/cancel`)
    expect(cancelled.body).toMatchObject({ status: 'cancelled', container_id: null, exit_code: null, started_at: null })
    await caller.post(`/containers/tool/${first.execution_id}/cancel`)
  })
})

describe('GET /containers/tool', () => {
  it('lists runs newest first, by filter, page by page and without their output', async () => {
    const session_id = newSession()
    const made: string[] = []
    for (const tool_name of ['a', 'b', 'a']) {
      made.unshift(
        (await setting.client.run({ session_id, tool_name, command: sh(`echo ${tool_name}; [ ${tool_name} = a ]`) }))
          .execution_id,
      )
    }
    const all = await setting.client.get(`/containers/tool?session_id=${session_id}`)
    expect(all.body.items.map((run: { execution_id: string }) => run.execution_id)).toEqual(made)
    expect(all.body.next_cursor).toBeNull()
    expect(all.body.items[0]).not.toHaveProperty('stdout')
    const failed = await setting.client.get(`/containers/tool?session_id=${session_id}&status=failed`)
    expect(failed.body.items.map((run: { tool_name: string }) => run.tool_name)).toEqual(['b'])
    const named = await setting.client.get(`/containers/tool?session_id=${session_id}&tool_name=a`)
    expect(named.body.items).toHaveLength(2)
    const first = await setting.client.get(`/containers/tool?session_id=${session_id}&limit=2`)
    const second = await setting.client.get(
      `/containers/tool?session_id=${session_id}&limit=2&cursor=${first.body.next_cursor}`,
    )
    expect([...first.body.items, ...second.body.items].map((run) => run.execution_id)).toEqual(made)
    expect(second.body.next_cursor).toBeNull()
  })
})
