import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { containerName, continueIds, newId } from '../../../src/managers/names.ts'

const NAME = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/)
const ID = 'exec_0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b'

describe('newId', () => {
  it('gives an id of its kind that no other has', () => {
    const ids = Array.from({ length: 1000 }, () => newId('exec'))
    expect(new Set(ids).size).toBe(1000)
    for (const id of ids)
      expect(id).toMatch(/^exec_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    expect(newId('relic')).toMatch(/^relic_/)
  })

  it('sorts by the millisecond of its making', async () => {
    const first = newId('exec')
    const from = Date.now()
    while (Date.now() === from) await new Promise((resolve) => setImmediate(resolve))
    expect(newId('exec') > first).toBe(true)
  })
})

describe('containerName', () => {
  it('tells the kind, the name, the session and the end of the id', () => {
    expect(containerName('tool', 'sum', 's1', ID)).toBe('tool_sum_s1_2e3f4a5b')
  })

  it('fits a DNS label, whatever the names, and is one that an engine takes', () => {
    fc.assert(
      fc.property(NAME, NAME, fc.constantFrom('tool' as const, 'relic' as const), (name, session, kind) => {
        const container = containerName(kind, name, session, ID)
        expect(container.length).toBeLessThanOrEqual(63)
        expect(container).toMatch(/^(tool|relic)_[A-Za-z0-9][A-Za-z0-9_.-]*_2e3f4a5b$/)
      }),
    )
  })

  it('shortens only the longer part, and keeps something of both', () => {
    expect(containerName('tool', 'n'.repeat(63), 's1', ID)).toBe(`tool_${'n'.repeat(46)}_s1_2e3f4a5b`)
    expect(containerName('tool', 'sum', 's'.repeat(63), ID)).toBe(`tool_sum_${'s'.repeat(45)}_2e3f4a5b`)
    expect(containerName('tool', 'n'.repeat(63), 's'.repeat(63), ID)).toBe(
      `tool_${'n'.repeat(24)}_${'s'.repeat(24)}_2e3f4a5b`,
    )
  })

  it('keeps two runs of one tool apart', () => {
    expect(containerName('tool', 'sum', 's1', newId('exec'))).not.toBe(
      containerName('tool', 'sum', 's1', newId('exec')),
    )
  })
})

describe('ids behind those of an earlier process', () => {
  it('come after them and in order, although the clock was set back', () => {
    const ahead = Date.now() + 3_600_000
    const hex = ahead.toString(16).padStart(12, '0')
    const earlier = `exec_${hex.slice(0, 8)}-${hex.slice(8)}-7fff-bfff-ffffffffffff`
    continueIds(earlier)
    const ids = [earlier, newId('exec'), newId('exec'), newId('exec')]
    expect(ids.toSorted()).toEqual(ids)
    expect(ids[3]).toMatch(/^exec_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  })
})
