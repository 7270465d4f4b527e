import { appendFile, type FileHandle, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { LogSync } from '../../../src/store/log-sync.ts'
import { temporaryFolder } from '../support/folders.ts'
import { rejection } from '../support/streams.ts'

let path: string
let log: LogSync
let checkpoints: number
let syncs: PromiseWithResolvers<void>[]

/** Each sync waits until the test ends it. */
beforeEach(async () => {
  path = join(await temporaryFolder(), 'store.sqlite-wal')
  await appendFile(path, 'log')
  checkpoints = 0
  syncs = []
  const file = await open(path)
  vi.spyOn(Object.getPrototypeOf(file) as FileHandle, 'datasync').mockImplementation(() => {
    const sync = Promise.withResolvers<void>()
    syncs.push(sync)
    return sync.promise
  })
  await file.close()
  log = new LogSync(path, () => {
    checkpoints += 1
  })
})
afterEach(() => vi.restoreAllMocks())

const begun = (count: number) => expect.poll(() => syncs.length).toBe(count)

/** What has resolved of these, so far. */
function watch(...waiting: Promise<void>[]): boolean[] {
  const done = waiting.map(() => false)
  waiting.forEach((promise, index) => {
    void promise.then(() => {
      done[index] = true
    })
  })
  return done
}

describe('LogSync', () => {
  it('has nothing to do where nothing was written', async () => {
    await log.done()
    expect(syncs).toHaveLength(0)
  })

  it('syncs once for all who wait at once, and once only', async () => {
    log.wrote()
    const done = watch(log.done(), log.done(), log.done())
    await begun(1)
    expect(done).toEqual([false, false, false])
    syncs[0]?.resolve()
    await expect.poll(() => done).toEqual([true, true, true])
    await log.done()
    expect(syncs).toHaveLength(1)
  })

  it('does not take a sync that is under way for one of what was written since', async () => {
    log.wrote()
    const first = watch(log.done())
    await begun(1)
    log.wrote()
    const later = watch(log.done(), log.done())
    syncs[0]?.resolve()
    await expect.poll(() => first).toEqual([true])
    await begun(2)
    expect(later).toEqual([false, false])
    syncs[1]?.resolve()
    await expect.poll(() => later).toEqual([true, true])
    expect(syncs).toHaveLength(2)
  })

  it('shares a sync that is under way with whoever wrote nothing since', async () => {
    log.wrote()
    const done = watch(log.done())
    await begun(1)
    done.push(...watch(log.done()))
    syncs[0]?.resolve()
    await expect.poll(() => done[0]).toBe(true)
    expect(syncs).toHaveLength(1)
  })

  it.each([
    ['ENOSPC', 'disk_low'],
    ['EIO', 'store_unavailable'],
  ])(
    'tells a disk that answers %s as %s, and has SQLite take the log over before it believes that disk again',
    async (code, told) => {
      log.wrote()
      const refused = rejection(log.done())
      await begun(1)
      syncs[0]?.reject(Object.assign(new Error(code), { code }))
      expect(await refused).toMatchObject({ code: told, details: { retryAfterSeconds: expect.any(Number) } })
      expect(checkpoints).toBe(0)
      const again = log.done()
      await begun(2)
      syncs[1]?.resolve()
      await again
      expect(checkpoints).toBe(1)
      log.wrote()
      const next = log.done()
      await begun(3)
      syncs[2]?.resolve()
      await next
      expect(checkpoints).toBe(1)
    },
  )

  it('syncs behind one that failed what was written since', async () => {
    log.wrote()
    const refused = rejection(log.done())
    await begun(1)
    log.wrote()
    const later = log.done()
    syncs[0]?.reject(new Error('gone'))
    expect(await refused).toMatchObject({ code: 'store_unavailable' })
    await begun(2)
    syncs[1]?.resolve()
    await later
  })

  it('says so where the log cannot be opened', async () => {
    await rm(path)
    log.wrote()
    expect(await rejection(log.done())).toMatchObject({ code: 'store_unavailable' })
  })

  it('waits at its end for the sync that is under way', async () => {
    log.wrote()
    const done = watch(log.done())
    await begun(1)
    const closed = watch(log.close())
    expect(closed).toEqual([false])
    syncs[0]?.resolve()
    await expect.poll(() => [...done, ...closed]).toEqual([true, true])
  })
})
