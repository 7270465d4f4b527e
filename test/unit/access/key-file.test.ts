import { chmod, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { changeKeyFile, type KeyEntry, readKeyFile, stateOf } from '../../../src/access/key-file.ts'
import { createKey } from '../../../src/access/keys.ts'
import { ConfigError } from '../../../src/errors.ts'
import { FileLock } from '../../../src/store/file-lock.ts'
import { temporaryFolder } from '../support/folders.ts'
import { rejection } from '../support/streams.ts'

const NOW = new Date('2026-11-21T04:05:06.789Z')
const SHA = 'ab'.repeat(32)
const ENTRY = { id: 'abcdefghijk1', owner: 'alice', role: 'agent', created_at: NOW.toISOString(), sha256: SHA }

const pathIn = async () => join(await temporaryFolder(), 'keys.json')
const add = (path: string) => changeKeyFile(path, (keys) => createKey(keys, { owner: 'alice', role: 'agent' }, NOW))

async function fileWith(content: string): Promise<string> {
  const path = await pathIn()
  await writeFile(path, content, { mode: 0o600 })
  return path
}

/** Why a file is refused, after that was found to be one line that names it. */
async function refusal(path: string): Promise<string> {
  const error = await rejection(readKeyFile(path))
  expect(error).toBeInstanceOf(ConfigError)
  const { message } = error as ConfigError
  expect(message.startsWith(`CO_KEYS_FILE=${path}: `)).toBe(true)
  expect(message).not.toContain('\n')
  return message.slice(`CO_KEYS_FILE=${path}: `.length)
}

describe('the file of keys', () => {
  it('is made with its folder, readable to its owner alone, and holds no key', async () => {
    const path = join(await temporaryFolder(), 'access', 'keys.json')
    const { text } = await add(path)
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect((await stat(join(path, '..'))).mode & 0o777).toBe(0o700)
    expect(await readFile(path, 'utf8')).not.toContain(text.slice(-43))
  })

  it('is not made where the path leads nowhere', async () => {
    const folder = await temporaryFolder()
    expect(await rejection(add(join(folder, 'a', 'b', 'keys.json')))).toMatchObject({ code: 'ENOENT' })
    expect(await readdir(folder)).toEqual([])
  })

  it('has every key that was ever added', async () => {
    const path = await pathIn()
    const made = [await add(path), await add(path), await add(path)]
    expect(await readKeyFile(path)).toEqual(made.map(({ entry }) => entry))
  })

  it('is replaced as a whole, and nothing else is left beside it but the lock', async () => {
    const path = await pathIn()
    await writeFile(`${path}.new`, 'left by a command that died')
    await add(path)
    const before = (await stat(path)).ino
    await add(path)
    expect((await stat(path)).ino).not.toBe(before)
    expect((await readdir(join(path, '..'))).sort()).toEqual(['keys.json', 'keys.json.lock'])
  })

  it('stays as it was where the change throws', async () => {
    const path = await pathIn()
    await add(path)
    const before = await readFile(path, 'utf8')
    const change = changeKeyFile(path, () => {
      throw new Error('no')
    })
    expect(await rejection(change)).toMatchObject({ message: 'no' })
    expect(await readFile(path, 'utf8')).toBe(before)
    await add(path)
  })

  it('is changed by one command at a time', async () => {
    const path = await pathIn()
    await add(path)
    const lock = FileLock.take(`${path}.lock`, 0)
    expect(FileLock.take(`${path}.lock`, 0)).toBeUndefined()
    lock?.release()
    await add(path)
    expect(await readKeyFile(path)).toHaveLength(2)
  })

  it('is changed behind a link, which stays one', async () => {
    const folder = await temporaryFolder()
    await mkdir(join(folder, 'real'))
    await add(join(folder, 'real', 'keys.json'))
    await symlink(join(folder, 'real', 'keys.json'), join(folder, 'keys.json'))
    await add(join(folder, 'keys.json'))
    expect(await readKeyFile(join(folder, 'real', 'keys.json'))).toHaveLength(2)
  })

  it('may be missing', async () => {
    expect(await readKeyFile(await pathIn())).toBeUndefined()
  })

  it.each([0o640, 0o604, 0o620, 0o602, 0o644, 0o666])('is refused where its mode is %o', async (mode) => {
    const path = await fileWith('{"keys": []}')
    await chmod(path, mode)
    expect(await refusal(path)).toContain(`mode ${mode.toString(8)}`)
    await chmod(path, 0o600)
    expect(await readKeyFile(path)).toEqual([])
  })

  it('may be written by hand', async () => {
    const keys: KeyEntry[] = [
      {
        ...ENTRY,
        role: 'service',
        scopes: ['run', 'build'],
        limits: { images: ['python:*'], memory_mb: 512, cpus: 0.5, host_roots: ['/srv/data'], sessions: 0 },
        created_at: '2026-11-21T04:05:06Z',
        expires_at: '2027-01-01T00:00:00Z',
      },
    ]
    expect(await readKeyFile(await fileWith(JSON.stringify({ keys })))).toEqual(keys)
  })

  it.each([
    ['nothing', '', 'JSON'],
    ['half of itself', '{"keys": [', 'JSON'],
    ['a list', '[]', 'object'],
    ['an unknown field', '{"keys": [], "version": 1}', 'version'],
    ['an unknown field of a key', { secret: 'x' }, 'secret'],
    ['an unknown role', { role: 'root' }, 'keys.0.role'],
    ['an unknown scope', { scopes: ['sudo'] }, 'keys.0.scopes'],
    ['a scope that its role does not have', { scopes: ['run', 'admin'] }, '"admin"'],
    ['no scope at all', { scopes: [] }, 'keys.0.scopes'],
    ['an id of another form', { id: 'ABC' }, 'keys.0.id'],
    ['a digest that is too short', { sha256: 'ab' }, 'keys.0.sha256'],
    ['an end that is no time', { expires_at: 'soon' }, 'keys.0.expires_at'],
    ['an end in local time', { expires_at: '2027-01-01T00:00:00' }, 'keys.0.expires_at'],
    ['an unknown limit', { limits: { disk: 1 } }, 'disk'],
    ['a limit as text', { limits: { memory_mb: '512' } }, 'keys.0.limits.memory_mb'],
    ['a root that is relative', { limits: { host_roots: ['data'] } }, 'keys.0.limits.host_roots'],
    ['a root with ".."', { limits: { host_roots: ['/a/../b'] } }, 'keys.0.limits.host_roots'],
  ])('is refused with %s, in one line that names it', async (_, content, word) => {
    const text = typeof content === 'string' ? content : JSON.stringify({ keys: [{ ...ENTRY, ...content }] })
    expect(await refusal(await fileWith(text))).toContain(word)
  })

  it('is refused where an id stands there twice', async () => {
    expect(await refusal(await fileWith(JSON.stringify({ keys: [ENTRY, ENTRY] })))).toContain('twice')
  })
})

describe('a key', () => {
  const key = ENTRY as KeyEntry

  it('expires at its moment, and is revoked whatever its end', () => {
    expect(stateOf(key, NOW)).toBe('valid')
    expect(stateOf({ ...key, expires_at: '2026-11-21T04:05:06.790Z' }, NOW)).toBe('valid')
    expect(stateOf({ ...key, expires_at: '2026-11-21T04:05:06.789Z' }, NOW)).toBe('expired')
    expect(stateOf({ ...key, expires_at: '2027-01-01T00:00:00Z', revoked_at: NOW.toISOString() }, NOW)).toBe('revoked')
  })
})
