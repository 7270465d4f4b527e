import { pino } from 'pino'
import { describe, expect, it, vi } from 'vitest'
import { DiskWatch } from '../../../src/managers/disk-watch.ts'
import { thrown } from '../support/streams.ts'

const MIB = 1024 ** 2

function watch(free: Record<string, number | undefined>) {
  const onChange = vi.fn()
  const disk = new DiskWatch({
    folders: Object.keys(free),
    reserveBytes: 100 * MIB,
    onChange,
    log: pino({ level: 'silent' }),
    freeBytes: async (folder) => free[folder],
  })
  return { disk, onChange, free }
}

describe('DiskWatch', () => {
  it('refuses work from the moment in which one disk has less than its reserve, until it has it again', async () => {
    const { disk, onChange, free } = watch({ data: 500 * MIB, engine: 200 * MIB })
    await disk.look()
    expect([disk.isLow, onChange.mock.calls]).toEqual([false, []])
    disk.requireRoom()
    free['engine'] = 99 * MIB
    await disk.look()
    expect(disk.isLow).toBe(true)
    expect(thrown(() => disk.requireRoom())).toMatchObject({
      code: 'disk_low',
      message: expect.stringContaining('99 MiB left'),
      details: { retryAfterSeconds: expect.any(Number), hint: expect.stringContaining('CO_DISK_RESERVE_MB') },
    })
    await disk.look()
    free['engine'] = 100 * MIB
    await disk.look()
    expect([disk.isLow, onChange.mock.calls]).toEqual([false, [[true], [false]]])
  })

  it('passes over a folder that it cannot see: the engine’s, on another machine or beyond a container', async () => {
    const { disk } = watch({ data: 500 * MIB, engine: undefined })
    await disk.look()
    expect(disk.isLow).toBe(false)
  })

  it('looks at real file systems where nothing else is given', async () => {
    const log = pino({ level: 'silent' })
    const folders = ['/', '/nonexistent']
    const roomy = new DiskWatch({ folders, reserveBytes: 1, onChange: () => {}, log })
    const full = new DiskWatch({ folders, reserveBytes: Number.MAX_SAFE_INTEGER, onChange: () => {}, log })
    await Promise.all([roomy.look(), full.look()])
    expect([roomy.isLow, full.isLow]).toEqual([false, true])
  })
})
