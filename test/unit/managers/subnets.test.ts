import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { capacityOf, freeSubnets } from '../../../src/managers/subnets.ts'

const cidrs = (range: string, taken: string[] = [], from = 0) =>
  [...freeSubnets(range, taken, from)].map(({ cidr }) => cidr)

describe('capacityOf', () => {
  it.each([
    ['10.213.0.0/16', 2048],
    ['10.0.0.0/8', 524_288],
    ['192.168.1.0/24', 8],
    ['192.168.1.0/27', 1],
    ['192.168.1.0/28', 0],
    ['not a range', 0],
    ['fd00::/64', 0],
    ['', 0],
  ])('%s holds %i', (range, count) => {
    expect(capacityOf(range)).toBe(count)
  })
})

describe('freeSubnets', () => {
  it('gives the /27s of a range in order', () => {
    expect(cidrs('192.168.1.0/25')).toEqual(['192.168.1.0/27', '192.168.1.32/27', '192.168.1.64/27', '192.168.1.96/27'])
    expect([...freeSubnets('10.213.0.0/16', [], 2047)][0]).toEqual({ index: 2047, cidr: '10.213.255.224/27' })
  })

  it('begins where it is told and goes around', () => {
    expect(cidrs('192.168.1.0/25', [], 3)).toEqual([
      '192.168.1.96/27',
      '192.168.1.0/27',
      '192.168.1.32/27',
      '192.168.1.64/27',
    ])
    expect(cidrs('192.168.1.0/25', [], 4)).toEqual(cidrs('192.168.1.0/25'))
  })

  it('begins at the range where an address inside it was written', () => {
    expect(cidrs('192.168.1.77/26')).toEqual(['192.168.1.64/27', '192.168.1.96/27'])
  })

  it.each([
    ['the same', '192.168.1.32/27'],
    ['a part of one', '192.168.1.40/30'],
    ['one address', '192.168.1.63/32'],
  ])('leaves out what %s takes', (_, taken) => {
    expect(cidrs('192.168.1.0/25', [taken])).toEqual(['192.168.1.0/27', '192.168.1.64/27', '192.168.1.96/27'])
  })

  it('gives nothing where a larger network covers the range', () => {
    expect(cidrs('192.168.1.0/25', ['192.168.0.0/16'])).toEqual([])
    expect(cidrs('192.168.1.0/25', ['0.0.0.0/0'])).toEqual([])
  })

  it('pays no heed to neighbours, IPv6 and what is no range', () => {
    expect(cidrs('192.168.1.0/26', ['192.168.0.0/24', '192.168.1.64/27', 'fd00::/64', '', 'x'])).toEqual([
      '192.168.1.0/27',
      '192.168.1.32/27',
    ])
  })

  it('handles the upper half of the addresses', () => {
    expect(cidrs('255.255.255.192/26')).toEqual(['255.255.255.192/27', '255.255.255.224/27'])
  })

  it('gives every free one once, and none that is taken', () => {
    const all = cidrs('10.1.0.0/22')
    fc.assert(
      fc.property(fc.subarray(all), fc.nat(100), (taken, from) => {
        const free = cidrs('10.1.0.0/22', taken, from)
        expect(free.toSorted()).toEqual(all.filter((cidr) => !taken.includes(cidr)).toSorted())
      }),
    )
  })
})
