import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fullId } from '../../../../src/engine/docker/ids.ts'
import { thrown } from '../../support/streams.ts'

const FULL = 'a1'.repeat(32)

describe('fullId', () => {
  it('passes a full id', () => {
    expect(fullId(FULL)).toBe(FULL)
  })

  it.each([
    ['a short id', FULL.slice(0, 12)],
    ['an id with one digit more', `${FULL}a`],
    ['upper case', FULL.toUpperCase()],
    ['a name', 'db'],
    ['a path', `..%2F..%2Fimages`],
    ['an id with a path behind it', `${FULL}/../x`],
    ['an id with a line end behind it', `${FULL}\n`],
    ['an image id', `sha256:${FULL}`],
    ['nothing', ''],
  ])('refuses %s', (_, id) => {
    expect(thrown(() => fullId(id))).toMatchObject({ name: 'EngineError', fault: 'invalid' })
  })

  it('refuses whatever one change makes of an id', () => {
    const change = fc.record({ at: fc.nat(63), to: fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }) })
    fc.assert(
      fc.property(change, ({ at, to }) => {
        fc.pre(!/^[0-9a-f]$/.test(to))
        const id = FULL.slice(0, at) + to + FULL.slice(at + 1)
        expect(thrown(() => fullId(id))).toMatchObject({ fault: 'invalid' })
      }),
    )
  })

  it('shows at most 80 characters of what it refuses', () => {
    expect((thrown(() => fullId('x'.repeat(1e5))) as Error).message.length).toBeLessThan(150)
  })
})
