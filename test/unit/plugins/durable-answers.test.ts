import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ExecuteTool } from '../../../src/domain/tool.ts'
import { AppError } from '../../../src/errors.ts'
import { LogSync } from '../../../src/store/log-sync.ts'
import { type MemoryService, startMemoryService } from '../../fixtures/memory-service.ts'

let service: MemoryService
let sync: PromiseWithResolvers<void>

/** From now on the disk takes its time. */
beforeEach(async () => {
  service = await startMemoryService()
  sync = Promise.withResolvers<void>()
  vi.spyOn(LogSync.prototype, 'done').mockImplementation(() => sync.promise)
})
afterEach(async () => {
  sync.resolve()
  vi.restoreAllMocks()
  await service[Symbol.asyncDispose]()
})

const RUN = { tool_name: 't', session_id: 's', image: 'container-orchestrator/toolbox:1', command: ['echo', 'hello'] }

describe('a call that changes something', () => {
  it.each([
    ['a run', 'POST', '/containers/tool/execute', { ...RUN, wait: false }],
    ['a session', 'PUT', '/sessions/s', {}],
  ] as const)('is answered once the disk has it: %s', async (_what, method, path, body) => {
    let answered = false
    const answer = service.call(method, path, body).then((got) => {
      answered = true
      return got
    })
    await expect.poll(() => service.store.sessions.count()).toBe(1)
    // What only reads is not held up, and sees it.
    expect((await service.call('GET', '/sessions/s')).status).toBe(200)
    expect(answered).toBe(false)
    sync.resolve()
    expect((await answer).status).toBeLessThan(300)
  })

  it('is refused where the disk does not take it, and nothing is made', async () => {
    const refused = service.call('POST', '/containers/tool/execute', { ...RUN, wait: false })
    await expect.poll(() => service.store.sessions.count()).toBe(1)
    sync.reject(new AppError('disk_low', 'The store cannot be written: its disk is full', { retryAfterSeconds: 5 }))
    expect(await refused).toMatchObject({ status: 503, body: { code: 'disk_low' } })
    expect(await service.engine.containers.list({})).toEqual([])
  })
})

describe('a container', () => {
  it('is made once the disk has the record of its run, and removed once it has its end', async () => {
    // Behind a first run, beside which the service makes containers of its own.
    sync.resolve()
    await service.call('POST', '/containers/tool/execute', RUN)
    await service.services.docker.settled()
    sync = Promise.withResolvers<void>()
    const { execution_id } = await service.services.tools.execute(ExecuteTool.parse(RUN))
    await expect.poll(async () => (await service.store.tools.get(execution_id))?.status).toBe('preparing')
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(await service.engine.containers.list({})).toEqual([])
    const first = sync
    sync = Promise.withResolvers<void>()
    first.resolve()
    expect((await service.services.tools.ended(execution_id)).status).toBe('completed')
    expect(await service.store.tools.get(execution_id)).toMatchObject({ live: false })
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(await service.engine.containers.list({})).toHaveLength(1)
    sync.resolve()
    await expect.poll(() => service.engine.containers.list({})).toEqual([])
  })
})

describe('events', () => {
  it('are told once the disk has them', async () => {
    const stop = new AbortController()
    const following = service.store.events.follow(0, {}, stop.signal)
    await service.store.events.append({ type: 'x', session_id: null, owner: null, data: {} })
    const next = following.next()
    const told = vi.fn()
    void next.then(told)
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(told).not.toHaveBeenCalled()
    sync.resolve()
    expect((await next).value).toMatchObject({ type: 'x' })
    stop.abort()
    await following.return(undefined)
  })
})
