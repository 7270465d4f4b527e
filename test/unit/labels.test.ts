import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  decodeLabels,
  encodeAllLabels,
  encodeLabels,
  isReservedLabel,
  KINDS,
  type Ownership,
  ownedBy,
} from '../../src/labels.ts'

const OWNER: Ownership = { instance: 'i1', kind: 'tool', id: 'exec_1', session: 's1', name: 'sum', nonce: 'n1' }
const text = fc.string({ unit: 'binary', maxLength: 20 })

describe('ownership labels', () => {
  it('are these, with one prefix', () => {
    expect(encodeLabels(OWNER)).toEqual({
      'container-orchestrator.instance': 'i1',
      'container-orchestrator.kind': 'tool',
      'container-orchestrator.id': 'exec_1',
      'container-orchestrator.nonce': 'n1',
      'container-orchestrator.session': 's1',
      'container-orchestrator.name': 'sum',
    })
  })

  it('leave nothing of an image’s own to show through, and tell the same', () => {
    const image = encodeLabels({ ...OWNER, owner: 'somebody' })
    const { session: _, name: __, ...bare } = OWNER
    expect(decodeLabels({ ...image, ...encodeAllLabels(bare) })).toEqual({
      ...bare,
      session: undefined,
      owner: undefined,
      name: undefined,
    })
    expect(decodeLabels({ ...image, ...encodeAllLabels(OWNER) })).toEqual({ ...OWNER, owner: undefined })
  })

  it('tell any owner again, among labels of anybody else', () => {
    const owner = fc.record({
      instance: text,
      kind: fc.constantFrom(...KINDS),
      id: text,
      nonce: text,
      session: fc.option(fc.string({ minLength: 1 }), { nil: undefined }),
      name: fc.option(fc.string({ minLength: 1 }), { nil: undefined }),
    })
    const others = fc.dictionary(
      text.filter((name) => !isReservedLabel(name)),
      text,
    )
    fc.assert(
      fc.property(owner, others, (given, foreign) => {
        const labels = encodeLabels(given)
        expect(Object.keys(labels).every(isReservedLabel)).toBe(true)
        expect(decodeLabels({ ...foreign, ...labels })).toEqual(given)
      }),
    )
  })

  it.each(['instance', 'kind', 'id', 'nonce'])('tell nothing without their %s', (missing) => {
    const { [`container-orchestrator.${missing}`]: _, ...rest } = encodeLabels(OWNER)
    expect(decodeLabels(rest)).toBeUndefined()
  })

  it('tell nothing where the kind is not one of ours, or the labels are not', () => {
    expect(decodeLabels({ ...encodeLabels(OWNER), 'container-orchestrator.kind': 'toString' })).toBeUndefined()
    expect(decodeLabels({ 'com.docker.compose.project': 'x' })).toBeUndefined()
    expect(decodeLabels({})).toBeUndefined()
  })
})

describe('ownedBy', () => {
  it('asks for what is told, and for nothing else', () => {
    expect(ownedBy('i1')).toEqual({ 'container-orchestrator.instance': 'i1' })
    expect(ownedBy('i1', 'relic')).toEqual({
      'container-orchestrator.instance': 'i1',
      'container-orchestrator.kind': 'relic',
    })
    expect(ownedBy('i1', undefined, 's1')).toEqual({
      'container-orchestrator.instance': 'i1',
      'container-orchestrator.session': 's1',
    })
  })

  it('matches what its owner made, and nothing of another instance, kind or session', () => {
    const matches = (filter: object, owner: Ownership) => {
      const labels = encodeLabels(owner)
      return Object.entries(filter).every(([name, value]) => labels[name] === value)
    }
    expect(matches(ownedBy('i1', 'tool', 's1'), OWNER)).toBe(true)
    for (const other of [{ instance: 'i2' }, { kind: 'relic' as const }, { session: 's2' }, { session: undefined }]) {
      expect(matches(ownedBy('i1', 'tool', 's1'), { ...OWNER, ...other })).toBe(false)
    }
  })
})

describe('isReservedLabel', () => {
  it.each([
    ['container-orchestrator', true],
    ['container-orchestrator.kind', true],
    ['container-orchestrator.anything', true],
    ['container-orchestrator-x', false],
    ['xcontainer-orchestrator.kind', false],
    ['Container-Orchestrator.kind', false],
    ['', false],
  ])('%s: %s', (name, reserved) => {
    expect(isReservedLabel(name)).toBe(reserved)
  })
})
