import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { beforeEach, describe, expect, it } from 'vitest'
import { readKeyFile } from '../../../src/access/key-file.ts'
import { KeyRing } from '../../../src/access/key-ring.ts'
import { credentialId } from '../../../src/access/secrets.ts'
import { keysCommand } from '../../../src/cli/keys.ts'
import { FileLock } from '../../../src/store/file-lock.ts'
import { temporaryFolder } from '../support/folders.ts'

const NOW = new Date('2026-11-21T00:00:00.000Z')
const HOUR = 3_600_000
const silent = { info() {}, warn() {}, error() {} }

let path: string

beforeEach(async () => {
  path = join(await temporaryFolder(), 'keys.json')
})

async function run(words: string, now = NOW) {
  const out: string[] = []
  const err: string[] = []
  const output = { out: (line: string) => void out.push(line), err: (line: string) => void err.push(line) }
  const code = await keysCommand([...words.split(' '), '--file', path], output, () => now)
  return { code, out, err }
}

async function made(words: string, now = NOW): Promise<{ text: string; id: string }> {
  const { code, out } = await run(words, now)
  expect([code, out.length]).toEqual([0, 1])
  const text = String(out[0])
  return { text, id: String(credentialId(text, 'co')) }
}

describe('npm run keys', () => {
  it('makes a key that the service knows, with all that was asked for', async () => {
    const { text } = await made(
      'create --role service --owner acme --scopes run,files --expires 30d --profiles strict,mine --images python:*,alpine --networks none --host-roots /srv/a --credentials github --max-memory-mb 512 --max-cpus 1.5 --max-timeout-seconds 60 --max-pids 10 --max-sessions 2 --max-runs 3 --max-containers 4 --max-requests-per-minute 600',
    )
    const ring = await KeyRing.open(path, { log: silent, now: () => NOW })
    expect(ring.authenticate(text)).toMatchObject({
      owner: 'acme',
      role: 'service',
      scopes: new Set(['run', 'files']),
      limits: {
        profiles: ['strict', 'mine'],
        images: ['python:*', 'alpine'],
        networks: ['none'],
        hostRoots: ['/srv/a'],
        credentials: ['github'],
        memoryMegabytes: 512,
        cpus: 1.5,
        timeoutSeconds: 60,
        pids: 10,
        sessions: 2,
        runs: 3,
        containers: 4,
        requestsPerMinute: 600,
      },
    })
    ring.close()
    expect((await readKeyFile(path))?.[0]?.expires_at).toBe('2026-12-21T00:00:00.000Z')
  })

  it('prints a key alone, once: the file and the list have no secret', async () => {
    const { text } = await made('create --role agent --owner alice')
    const secret = text.slice(-43)
    const { out } = await run('list')
    expect([...out, await readFile(path, 'utf8')].join('\n')).not.toContain(secret)
    expect(out.join('\n')).not.toContain((await readKeyFile(path))?.[0]?.sha256)
  })

  it('lists keys with their state', async () => {
    const old = await made('create --role agent --owner alice --expires 1h')
    const gone = await made('create --role metrics --owner prometheus')
    const here = await made('create --role ops --owner root --scopes stats,admin')
    await run(`revoke ${gone.id}`)
    const { code, out } = await run('list', new Date(NOW.getTime() + HOUR))
    expect(code).toBe(0)
    expect(out.map((line) => line.split(/ {2,}/))).toEqual([
      ['ID', 'OWNER', 'ROLE', 'SCOPES', 'CREATED', 'EXPIRES', 'STATE'],
      [old.id, 'alice', 'agent', '(all of the role)', NOW.toISOString(), '2026-11-21T01:00:00.000Z', 'expired'],
      [gone.id, 'prometheus', 'metrics', '(all of the role)', NOW.toISOString(), 'never', 'revoked'],
      [here.id, 'root', 'ops', 'stats,admin', NOW.toISOString(), 'never', 'valid'],
    ])
  })

  it('rotates: both keys are valid for the overlap, and the owner is the same', async () => {
    const old = await made('create --role agent --owner alice --max-pids 7')
    const fresh = await made(`rotate ${old.id} --overlap 2h`)
    let now = new Date(NOW.getTime() + 2 * HOUR - 1)
    const ring = await KeyRing.open(path, { log: silent, now: () => now })
    expect(ring.authenticate(old.text)).toMatchObject({ owner: 'alice', limits: { pids: 7 } })
    expect(ring.authenticate(fresh.text)).toMatchObject({ owner: 'alice', limits: { pids: 7 } })
    now = new Date(NOW.getTime() + 2 * HOUR)
    expect(ring.authenticate(old.text)).toBeUndefined()
    expect(ring.authenticate(fresh.text)).toBeDefined()
    ring.close()
  })

  it('rotates with a day of overlap where none is given', async () => {
    const old = await made('create --role agent --owner alice')
    await made(`rotate ${old.id}`)
    expect((await readKeyFile(path))?.[0]?.expires_at).toBe('2026-11-22T00:00:00.000Z')
  })

  it('revokes, also again', async () => {
    const { id } = await made('create --role agent --owner alice')
    for (const hours of [1, 2]) expect((await run(`revoke ${id}`, new Date(NOW.getTime() + hours * HOUR))).code).toBe(0)
    expect((await readKeyFile(path))?.[0]?.revoked_at).toBe('2026-11-21T01:00:00.000Z')
  })

  it.each([
    ['destroy', 'destroy'],
    ['create --role agent', '--owner'],
    ['create --owner alice', '--role'],
    ['create --role root --owner alice', '--role'],
    ['create --role agent --owner a/b', '--owner'],
    ['create --role agent --owner alice extra', 'extra'],
    ['create --role agent --owner alice --scopes build', '"build"'],
    ['create --role agent --owner alice --scopes walk', '--scopes'],
    ['create --role agent --owner alice --scopes ,', '--scopes'],
    ['create --role agent --owner alice --expires soon', '--expires'],
    ['create --role agent --owner alice --expires 0d', '--expires'],
    ['create --role agent --owner alice --max-pids many', '--max-pids'],
    ['create --role agent --owner alice --max-pids 0', '--max-pids'],
    ['create --role agent --owner alice --max-pids 1.5', '--max-pids'],
    ['create --role agent --owner alice --host-roots srv', '--host-roots'],
    ['create --role agent --owner alice --max-disk 1', '--max-disk'],
    ['create --role', '--role'],
    ['list all', 'all'],
    ['rotate', 'id'],
    ['rotate a b', 'b'],
    ['rotate a --overlap 5', '--overlap'],
    ['revoke', 'id'],
  ])('is misused by %j: 2, in one line that names it, and nothing is made', async (words, word) => {
    const { code, out, err } = await run(words)
    expect([code, out, err.length]).toEqual([2, [], 1])
    expect(err[0]).toContain(word)
    expect(err[0]).not.toContain('\n')
    expect(await readKeyFile(path)).toBeUndefined()
  })

  it.each(['list', 'rotate nobody', 'revoke nobody'])(
    'fails on what is not there: 1, in one line: %j',
    async (words) => {
      const { code, out, err } = await run(words)
      expect([code, out, err.length]).toEqual([1, [], 1])
      expect(err[0]).not.toContain('\n')
      expect(await readKeyFile(path)).toBeUndefined()
    },
  )

  it('leaves a file that it does not understand as it is', async () => {
    await writeFile(path, '{"keys": [', { mode: 0o600 })
    expect((await run('create --role agent --owner alice')).code).toBe(1)
    expect(await readFile(path, 'utf8')).toBe('{"keys": [')
  })

  it('tells how it is used', async () => {
    for (const words of ['--help', 'create --help', 'list -h']) {
      const { code, out } = await run(words)
      expect(code).toBe(0)
      expect(out.join('\n')).toContain('npm run keys -- create')
    }
  })

  it('reads CO_KEYS_FILE; commands at once wait for one another, and no key is lost', async () => {
    const create = (owner: string) =>
      promisify(execFile)(
        process.execPath,
        ['--disable-warning=ExperimentalWarning', 'src/cli/keys.ts', 'create', '--role', 'agent', '--owner', owner],
        { env: { PATH: process.env['PATH'], CO_KEYS_FILE: path } },
      )
    const lock = FileLock.take(`${path}.lock`, 0)
    const commands = Promise.all(['a', 'b', 'c'].map(create))
    // By then they wait, all at the same time.
    await sleep(2_000)
    expect(await readKeyFile(path)).toBeUndefined()
    lock?.release()
    const outputs = await commands
    const ids = outputs.map(({ stdout }) => credentialId(stdout.trim(), 'co'))
    const keys = await readKeyFile(path)
    expect(keys?.map(({ owner }) => owner).sort()).toEqual(['a', 'b', 'c'])
    expect(new Set(keys?.map(({ id }) => id))).toEqual(new Set(ids))
  }, 30_000)
})
