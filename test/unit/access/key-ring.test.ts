import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { changeKeyFile } from '../../../src/access/key-file.ts'
import { KeyRing } from '../../../src/access/key-ring.ts'
import { createKey, type NewKey, revokeKey } from '../../../src/access/keys.ts'
import { makeCredential } from '../../../src/access/secrets.ts'
import { ConfigError } from '../../../src/errors.ts'
import { temporaryFolder } from '../support/folders.ts'
import { rejection, thrown } from '../support/streams.ts'

const NOW = new Date('2026-11-21T04:05:06.789Z')
const ALICE: NewKey = { owner: 'alice', role: 'agent' }

let path: string
let now: Date
let rings: KeyRing[]
const log = { info: vi.fn(), warn: vi.fn(), error: vi.fn() }

const add = (wanted: NewKey = ALICE) => changeKeyFile(path, (keys) => createKey(keys, wanted, NOW))
const revoke = (id: string) => changeKeyFile(path, (keys) => revokeKey(keys, id, NOW))
async function open({ pollMs = 3_600_000 } = {}): Promise<KeyRing> {
  const ring = await KeyRing.open(path, { log, pollMs, now: () => now })
  rings.push(ring)
  return ring
}
const errors = () => log.error.mock.calls.map(([fields]) => fields.event)

beforeEach(async () => {
  path = join(await temporaryFolder(), 'keys.json')
  now = NOW
  rings = []
  vi.clearAllMocks()
})
afterEach(() => {
  for (const ring of rings) ring.close()
})

describe('a ring of keys', () => {
  it('tells whose key it is, with what it may do', async () => {
    const { text, entry } = await add({
      owner: 'alice',
      role: 'service',
      limits: { memory_mb: 64, host_roots: ['/a'] },
    })
    const ring = await open()
    const caller = {
      owner: 'alice',
      keyId: entry.id,
      role: 'service',
      scopes: new Set(['run', 'relic', 'worker', 'exec', 'files', 'stats', 'build']),
      reach: 'own',
      limits: { memoryMegabytes: 64, hostRoots: ['/a'] },
    }
    expect(ring.authenticate(text)).toEqual(caller)
    expect(ring.callerOf(entry.id)).toEqual(caller)
  })

  it('gives a key the scopes that narrow its role', async () => {
    const { text } = await add({ owner: 'bob', role: 'ops', scopes: ['stats'] })
    expect((await open()).authenticate(text)).toMatchObject({ scopes: new Set(['stats']), reach: 'all', limits: {} })
  })

  it('knows nobody else', async () => {
    const { text, entry } = await add()
    const ring = await open()
    const stranger = makeCredential('co').text
    const halfRight = `co_${entry.id}_${stranger.slice(-43)}`
    for (const other of ['', 'Bearer', stranger, halfRight, `${text}x`, text.slice(0, -1), entry.id, entry.sha256])
      expect(ring.authenticate(other), other).toBeUndefined()
    expect(ring.callerOf('nobody')).toBeUndefined()
    expect(ring.authenticate(text)).toBeDefined()
  })

  it('knows a key until it expires', async () => {
    const { text, entry } = await add({ ...ALICE, expiresAt: new Date(NOW.getTime() + 1000) })
    const ring = await open()
    now = new Date(NOW.getTime() + 999)
    expect([ring.authenticate(text)?.owner, ring.callerOf(entry.id)?.owner]).toEqual(['alice', 'alice'])
    now = new Date(NOW.getTime() + 1000)
    expect([ring.authenticate(text), ring.callerOf(entry.id)]).toEqual([undefined, undefined])
  })

  it('forgets a key that is revoked, and learns a new one, within a second', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    onTestFinished(() => void vi.useRealTimers())
    const { text, entry } = await add()
    const ring = await KeyRing.open(path, { log })
    rings.push(ring)
    const bob = await add({ owner: 'bob', role: 'agent' })
    await revoke(entry.id)
    expect(ring.authenticate(text)).toBeDefined()
    vi.advanceTimersByTime(1_000)
    // The look began within the second; how long the disk takes for it is the machine's mood.
    while (ring.authenticate(text) !== undefined) await sleep(5)
    expect(ring.callerOf(entry.id)).toBeUndefined()
    expect(ring.authenticate(bob.text)?.owner).toBe('bob')
  })

  it('keeps its keys where the file is broken, tells so once for each change, and takes the next good one', async () => {
    const { text, entry } = await add()
    const ring = await open()
    await writeFile(path, '{"keys": [')
    await ring.look()
    await ring.look()
    expect(ring.authenticate(text)).toBeDefined()
    expect(errors()).toEqual(['keys.broken'])
    await writeFile(path, '{"keys": [}')
    await ring.look()
    expect(errors()).toEqual(['keys.broken', 'keys.broken'])
    await writeFile(path, '{"keys": []}')
    await ring.look()
    expect(ring.authenticate(text)).toBeUndefined()
    expect(ring.callerOf(entry.id)).toBeUndefined()
    expect(errors()).toHaveLength(2)
  })

  it('knows no key while the file is gone, and pays no heed to a moment without it', async () => {
    const { text } = await add()
    const ring = await open()
    await rename(path, `${path}.away`)
    await ring.look()
    expect(ring.authenticate(text)).toBeDefined()
    await rename(`${path}.away`, path)
    await ring.look()
    await rename(path, `${path}.away`)
    await ring.look()
    expect(ring.authenticate(text)).toBeDefined()
    expect(errors()).toEqual([])
    await ring.look()
    await ring.look()
    expect(ring.authenticate(text)).toBeUndefined()
    expect(errors()).toEqual(['keys.gone'])
    await rename(`${path}.away`, path)
    await ring.look()
    expect(ring.authenticate(text)).toBeDefined()
  })

  it('is not opened without a file, or on a broken one', async () => {
    expect(await rejection(open())).toBeInstanceOf(ConfigError)
    await writeFile(path, '', { mode: 0o600 })
    expect(await rejection(open())).toBeInstanceOf(ConfigError)
    await rm(path)
    await add()
    await open()
  })

  it('tells where nobody could call', async () => {
    const { entry } = await add({ ...ALICE, expiresAt: new Date(NOW.getTime() + 1000) })
    const ring = await open()
    ring.requireUsableKey()
    now = new Date(NOW.getTime() + 1000)
    expect(thrown(() => ring.requireUsableKey())).toBeInstanceOf(ConfigError)
    now = NOW
    await revoke(entry.id)
    await ring.look()
    expect(thrown(() => ring.requireUsableKey())).toBeInstanceOf(ConfigError)
  })
})
