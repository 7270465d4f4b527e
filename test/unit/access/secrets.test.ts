import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { credentialId, isCredential, makeCredential } from '../../../src/access/secrets.ts'

describe('credentials', () => {
  it('have 256 random bits, and are known by their SHA-256', () => {
    const made = Array.from({ length: 200 }, () => makeCredential('co'))
    expect(new Set(made.map(({ text }) => text)).size).toBe(200)
    expect(new Set(made.map(({ id }) => id)).size).toBe(200)
    for (const { id, text, sha256 } of made) {
      const [prefix, inText, ...secret] = text.split('_')
      expect([prefix, inText]).toEqual(['co', id])
      expect(Buffer.from(secret.join('_'), 'base64url')).toHaveLength(32)
      expect(sha256).toBe(createHash('sha256').update(text).digest('hex'))
      expect(isCredential(text, sha256)).toBe(true)
      expect(credentialId(text, 'co')).toBe(id)
    }
  })

  it('are of one kind', () => {
    const [key, token] = [makeCredential('co'), makeCredential('cos')]
    expect(credentialId(key.text, 'cos')).toBeUndefined()
    expect(credentialId(token.text, 'co')).toBeUndefined()
    expect(credentialId(token.text, 'cos')).toBe(token.id)
  })

  it('are not what differs in any character', () => {
    const { text, sha256 } = makeCredential('co')
    for (const index of Array.from(text).keys()) {
      const other = text.slice(0, index) + (text[index] === 'x' ? 'y' : 'x') + text.slice(index + 1)
      expect(isCredential(other, sha256), other).toBe(false)
    }
    expect(isCredential(text, undefined)).toBe(false)
    expect(isCredential(text, makeCredential('co').sha256)).toBe(false)
  })

  it.each(['', 'co', 'co_', 'co_abc_def', 'Bearer co_', 'co__', `co_${'a'.repeat(12)}_${'b'.repeat(42)}`])(
    'have a form that %j has not',
    (text) => expect(credentialId(text, 'co')).toBeUndefined(),
  )

  it('have nothing before or behind them', () => {
    const { text } = makeCredential('co')
    for (const other of [` ${text}`, `${text} `, `${text}\n`, `x${text}`, `${text}x`, text.toUpperCase()])
      expect(credentialId(other, 'co'), other).toBeUndefined()
  })
})
