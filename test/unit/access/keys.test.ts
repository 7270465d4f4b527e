import { describe, expect, it } from 'vitest'
import { createKey, revokeKey, rotateKey } from '../../../src/access/keys.ts'
import { ConfigError } from '../../../src/errors.ts'
import { thrown } from '../support/streams.ts'

const NOW = new Date('2026-11-21T00:00:00.000Z')
const HOUR = 3_600_000
const later = (hours: number) => new Date(NOW.getTime() + hours * HOUR)
const WANTED = { owner: 'alice', role: 'service', scopes: ['run'], limits: { pids: 9 } } as const

describe('a key', () => {
  it('is never made with a scope that its role does not have', () => {
    const error = thrown(() => createKey([], { owner: 'a', role: 'agent', scopes: ['build'] }, NOW))
    expect(error).toBeInstanceOf(ConfigError)
  })

  it('is rotated into one of the same owner, role, scopes and limits; the old one ends after the overlap', () => {
    const { keys, result } = createKey([], { ...WANTED, scopes: ['run'] }, NOW)
    const rotated = rotateKey(keys, result.entry.id, { overlapMs: 24 * HOUR }, later(10))
    expect(rotated.keys).toEqual([
      { ...result.entry, expires_at: later(34).toISOString() },
      { ...result.entry, ...fresh(rotated.result.entry), created_at: later(10).toISOString() },
    ])
    expect(rotated.result.text).not.toBe(result.text)
  })

  it('that is rotated has as long a life as the old one, or the one that is asked for', () => {
    const { keys, result } = createKey([], { ...WANTED, expiresAt: later(48) }, NOW)
    const { id } = result.entry
    const rotate = (expiresAt?: Date) => rotateKey(keys, id, { overlapMs: 0, expiresAt }, later(10)).result.entry
    expect(rotate().expires_at).toBe(later(58).toISOString())
    expect(rotate(later(11)).expires_at).toBe(later(11).toISOString())
  })

  it('is not given a longer life by the overlap', () => {
    const { keys, result } = createKey([], { ...WANTED, expiresAt: later(12) }, NOW)
    const rotated = rotateKey(keys, result.entry.id, { overlapMs: 24 * HOUR }, later(10))
    expect(rotated.keys[0]?.expires_at).toBe(later(12).toISOString())
  })

  it('is revoked once, also where that is repeated; then it is not rotated', () => {
    const made = createKey(createKey([], WANTED, NOW).keys, WANTED, NOW)
    const { id } = made.result.entry
    const { keys } = revokeKey(made.keys, id, later(1))
    expect(keys).toEqual([made.keys[0], { ...made.keys[1], revoked_at: later(1).toISOString() }])
    expect(revokeKey(keys, id, later(2)).keys).toEqual(keys)
    expect(thrown(() => rotateKey(keys, id, { overlapMs: 0 }, later(2)))).toMatchObject({
      message: expect.stringContaining('revoked'),
    })
  })

  it('that there is not is told', () => {
    for (const work of [() => revokeKey([], 'x', NOW), () => rotateKey([], 'x', { overlapMs: 0 }, NOW)])
      expect(thrown(work)).toMatchObject({ message: 'there is no key "x"' })
  })
})

const fresh = ({ id, sha256 }: { id: string; sha256: string }) => ({ id, sha256 })
