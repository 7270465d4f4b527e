import { pino } from 'pino'
import { describe, expect, it, vi } from 'vitest'
import { Availability } from '../../../src/engine/availability.ts'
import { EngineError } from '../../../src/errors.ts'
import { LoopbackOnly } from '../../../src/managers/loopback-only.ts'
import type { Toolbox } from '../../../src/managers/toolbox.ts'
import { STRICT } from '../../../src/policy/profiles.ts'

const FAST = { mode: 'none', hostsFile: '/volumes/toolbox/hosts' } as const
const BY_THE_ENGINE = { mode: 'none' } as const

/** An engine whose containers are alone, unless something else is said. */
function setUp() {
  const availability = new Availability()
  const toolbox = {
    hostsFile: vi.fn<Toolbox['hostsFile']>(async () => FAST.hostsFile),
    run: vi.fn<Toolbox['run']>(async () => 0),
  }
  const log = pino({ level: 'silent' })
  const loopback = new LoopbackOnly({ availability, toolbox: toolbox as unknown as Toolbox, log })
  return { availability, toolbox, loopback }
}

describe('a container without a network', () => {
  it('is started the fast way once it was seen to be alone so, which is looked at once', async () => {
    const { loopback, toolbox } = setUp()
    const both = await Promise.all([loopback.attachment(STRICT), loopback.attachment(STRICT)])
    expect([...both, await loopback.attachment(STRICT)]).toEqual([FAST, FAST, FAST])
    expect(toolbox.run).toHaveBeenCalledTimes(1)
    expect(toolbox.run).toHaveBeenCalledWith('/.toolbox/loopback-alone', FAST, undefined)
  })

  it('is looked at for each runtime', async () => {
    const { loopback, toolbox } = setUp()
    toolbox.run.mockImplementation(async (_program, _network, runtime) => (runtime === 'runsc' ? 1 : 0))
    expect(await loopback.attachment(STRICT)).toEqual(FAST)
    expect(await loopback.attachment({ ...STRICT, runtime: 'runsc' })).toEqual(BY_THE_ENGINE)
    expect(await loopback.attachment({ ...STRICT, runtime: 'runsc' })).toEqual(BY_THE_ENGINE)
    expect(toolbox.run).toHaveBeenCalledTimes(2)
  })

  it('is looked at again when the engine was away, which may be another one since', async () => {
    const { availability, loopback, toolbox } = setUp()
    await loopback.attachment(STRICT)
    toolbox.run.mockResolvedValue(1)
    expect(await loopback.attachment(STRICT)).toEqual(FAST)
    // Whatever the clock says.
    vi.useFakeTimers({ now: Date.now() - 86_400_000 })
    availability.set(false)
    availability.set(true)
    vi.useRealTimers()
    expect(await loopback.attachment(STRICT)).toEqual(BY_THE_ENGINE)
  })

  it('gets its network from an engine that does not tell where its volumes are', async () => {
    const { loopback, toolbox } = setUp()
    toolbox.hostsFile.mockResolvedValue(undefined)
    expect(await loopback.attachment(STRICT)).toEqual(BY_THE_ENGINE)
    expect(toolbox.run).not.toHaveBeenCalled()
  })

  it('gets its network from the engine where its root can be written to, and its hosts with it', async () => {
    const { loopback, toolbox } = setUp()
    expect(await loopback.attachment({ ...STRICT, readonlyRoot: false })).toEqual(BY_THE_ENGINE)
    expect(toolbox.run).not.toHaveBeenCalled()
  })

  it.each(['deadline', 'invalid', 'failed', 'start_failed'] as const)(
    'gets its network from the engine for a minute where it could not be looked at (%s)',
    async (fault) => {
      const { loopback, toolbox } = setUp()
      toolbox.run.mockRejectedValueOnce(new EngineError(fault, 'no'))
      vi.useFakeTimers()
      expect(await loopback.attachment(STRICT)).toEqual(BY_THE_ENGINE)
      vi.advanceTimersByTime(59_000)
      // A clock that somebody sets changes nothing.
      vi.setSystemTime(Date.now() + 86_400_000)
      expect(await loopback.attachment(STRICT)).toEqual(BY_THE_ENGINE)
      vi.advanceTimersByTime(2_000)
      expect(await loopback.attachment(STRICT)).toEqual(FAST)
      vi.useRealTimers()
      expect(toolbox.run).toHaveBeenCalledTimes(2)
    },
  )

  it.each([
    ['invalid', `bind source path does not exist: ${FAST.hostsFile}`],
    ['failed', `statfs ${FAST.hostsFile}: no such file or directory`],
  ] as const)('gets its network from the engine where the file of hosts is gone (%s)', async (fault, words) => {
    vi.useFakeTimers()
    const { loopback } = setUp()
    const network = await loopback.attachment(STRICT)
    const make = vi.fn(async (attached: object) => {
      if ('hostsFile' in attached) throw new EngineError(fault, words)
      return 'made'
    })
    expect(await loopback.made(network, make)).toBe('made')
    expect(make.mock.calls).toEqual([[FAST], [BY_THE_ENGINE]])
    expect(await loopback.attachment(STRICT)).toEqual(BY_THE_ENGINE)
    vi.advanceTimersByTime(61_000)
    expect(await loopback.attachment(STRICT)).toEqual(FAST)
    vi.useRealTimers()
  })

  it.each([
    ['another failure', FAST, new EngineError('not_found', 'No such image')],
    ['a mount of the caller’s that is refused', FAST, new EngineError('invalid', 'Duplicate mount point: /etc/hosts')],
    ['what is not for want of the file', { mode: 'bridge' }, new EngineError('invalid', 'no')],
  ] as const)('is not made again after %s', async (_, network, failure) => {
    const { loopback } = setUp()
    const make = vi.fn(async () => {
      throw failure
    })
    await expect(loopback.made(network, make)).rejects.toBe(failure)
    expect(make).toHaveBeenCalledTimes(1)
  })
})
