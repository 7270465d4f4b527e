import { appendFile, type FileHandle, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { AuditLog, type AuditLogOptions } from '../../../src/audit/audit-log.ts'
import { verify } from '../../../src/audit/verify.ts'
import { ConfigError } from '../../../src/errors.ts'
import { temporaryFolder } from '../support/folders.ts'
import { rejection } from '../support/streams.ts'
import { ENTRY, entry, linesIn, namesIn, silent } from './support.ts'

const FIRST = 'audit-000000000001.jsonl'
const folderOf = async () => join(await temporaryFolder(), 'audit')
const open = (folder: string, options: Partial<AuditLogOptions> = {}) =>
  AuditLog.open(folder, { log: silent, ...options })
const unavailable = expect.objectContaining({ code: 'audit_unavailable' })
const diskFull = () => Object.assign(new Error('no space left on device, /srv/data'), { code: 'ENOSPC' })

/** A disk that takes so many bytes. */
function disk(room: number) {
  const self = {
    room,
    write: async (file: FileHandle, bytes: Buffer) => {
      if (self.room <= 0) throw diskFull()
      const { bytesWritten } = await file.write(bytes.subarray(0, self.room))
      self.room -= bytesWritten
      return bytesWritten
    },
  }
  return self
}

async function expectSound(folder: string, entries: number, head?: string) {
  expect(await verify(folder, { head })).toMatchObject({
    entries,
    broken: undefined,
    ...(head === undefined ? {} : { head, hasHead: true }),
  })
}

describe('the audit log', () => {
  it('has a line on disk for each entry once that is appended, readable to its owner alone', async () => {
    const folder = await folderOf()
    const audit = await open(folder, { now: () => new Date('2026-11-21T04:05:06.789Z') })
    await audit.append(ENTRY)
    expect(await linesIn(folder)).toEqual([
      { seq: 1, at: '2026-11-21T04:05:06.789Z', prev: '0'.repeat(64), ...ENTRY, hash: audit.head.hash },
    ])
    await audit.append({ ...ENTRY, decision: 'deny', rule: 'role', status: 403 })
    expect((await linesIn(folder))[1]).toMatchObject({ seq: 2, decision: 'deny', rule: 'role', status: 403 })
    expect((await stat(folder)).mode & 0o777).toBe(0o700)
    expect((await stat(join(folder, FIRST))).mode & 0o777).toBe(0o600)
    await audit.close()
  })

  it('keeps the order of entries that are appended at once, in few writes', async () => {
    const folder = await folderOf()
    let writes = 0
    const audit = await open(folder, {
      write: async (file, bytes) => {
        writes += 1
        return (await file.write(bytes)).bytesWritten
      },
    })
    const ids = Array.from({ length: 500 }, (_, index) => `req-${index}`)
    const added = ids.slice(0, 200).map((id) => audit.append(entry(id)))
    await added[0]
    added.push(...ids.slice(200).map((id) => audit.append(entry(id))))
    await Promise.all(added)
    expect((await linesIn(folder)).map(({ request_id }) => request_id)).toEqual(ids)
    expect(writes).toBe(2)
    await expectSound(folder, 500, audit.head.hash)
    await audit.close()
  })

  it('goes on where it ended when it is opened again', async () => {
    const folder = await folderOf()
    for (const id of ['a', 'b', 'c']) {
      const audit = await open(folder)
      await audit.append(entry(id))
      await audit.close()
    }
    expect((await linesIn(folder)).map(({ seq, request_id }) => [seq, request_id])).toEqual([
      [1, 'a'],
      [2, 'b'],
      [3, 'c'],
    ])
    expect(await namesIn(folder)).toEqual([FIRST])
    await expectSound(folder, 3)
  })

  it('begins a file where one is full; the chain goes on, also over a start', async () => {
    const folder = await folderOf()
    const first = await open(folder, { maxFileBytes: 1_000 })
    for (const id of ['a', 'b', 'c', 'd', 'e']) await first.append(entry(id))
    await first.close()
    const again = await open(folder, { maxFileBytes: 1_000 })
    for (const id of ['f', 'g', 'h']) await again.append(entry(id))
    await again.close()
    const names = await namesIn(folder)
    expect(names.length).toBeGreaterThan(2)
    for (const name of names) {
      const [line = ''] = (await readFile(join(folder, name), 'utf8')).split('\n')
      expect(name).toBe(`audit-${String(JSON.parse(line).seq).padStart(12, '0')}.jsonl`)
    }
    expect((await linesIn(folder)).map(({ request_id }) => request_id).join('')).toBe('abcdefgh')
    await expectSound(folder, 8, again.head.hash)
  })

  it('goes on behind a file that was begun and has no line yet', async () => {
    const folder = await folderOf()
    const audit = await open(folder)
    await audit.append(entry('a'))
    await audit.close()
    await writeFile(join(folder, 'audit-000000000002.jsonl'), '')
    const again = await open(folder)
    await again.append(entry('b'))
    await again.close()
    expect(await namesIn(folder)).toEqual([FIRST, 'audit-000000000002.jsonl'])
    await expectSound(folder, 2)
  })

  it('takes nothing once it is closed, and closes twice', async () => {
    const folder = await folderOf()
    const audit = await open(folder)
    const last = audit.append(ENTRY)
    await audit.close()
    await last
    await audit.close()
    expect(await rejection(audit.append(ENTRY))).toEqual(unavailable)
    await expectSound(folder, 1)
  })

  it('tells its head when it closes', async () => {
    const log = { ...silent, info: vi.fn() }
    const audit = await open(await folderOf(), { log })
    await audit.append(ENTRY)
    await audit.close()
    expect(log.info).toHaveBeenLastCalledWith({ event: 'audit.head', ...audit.head }, expect.anything())
  })

  it('is synced to disk within a second, and when it closes, and not for each line', async () => {
    const folder = await folderOf()
    const synced = vi.fn()
    const audit = await open(folder, {
      write: async (file, bytes) => {
        const sync = file.datasync.bind(file)
        file.datasync = async () => {
          synced()
          await sync()
        }
        return (await file.write(bytes)).bytesWritten
      },
    })
    for (let count = 0; count < 20; count++) await audit.append(ENTRY)
    expect(synced).not.toHaveBeenCalled()
    await vi.waitFor(() => expect(synced).toHaveBeenCalled(), { timeout: 2_000 })
    synced.mockClear()
    await audit.append(ENTRY)
    await audit.close()
    expect(synced).toHaveBeenCalled()
  })

  it('cannot be opened where its folder cannot be', async () => {
    const file = join(await temporaryFolder(), 'file')
    await writeFile(file, '')
    expect(await rejection(open(join(file, 'audit')))).toBeInstanceOf(ConfigError)
  })
})

describe('a disk that is full', () => {
  it('refuses entries as unavailable, without a path of the host, and leaves no half line', async () => {
    const folder = await folderOf()
    const store = disk(600)
    const audit = await open(folder, { write: store.write })
    await audit.append(entry('a'))
    const before = await readFile(join(folder, FIRST))
    const failures = await Promise.all(['b', 'c', 'd'].map((id) => rejection(audit.append(entry(id)))))
    expect(failures).toEqual([unavailable, unavailable, unavailable])
    expect(failures[0]).toMatchObject({
      message: expect.stringContaining('ENOSPC'),
      details: { retryAfterSeconds: expect.any(Number) },
    })
    expect((failures[0] as Error).message).not.toContain('/srv/data')
    expect(await readFile(join(folder, FIRST))).toEqual(before)
    // The room was used before it was given back: the half line was really there.
    expect(store.room).toBe(0)
    await audit.close()
    await expectSound(folder, 1, audit.head.hash)
  })

  it('is used again as soon as there is room, and what was refused is not in the log', async () => {
    const folder = await folderOf()
    const log = { ...silent, error: vi.fn(), info: vi.fn() }
    const store = disk(600)
    const audit = await open(folder, { write: store.write, log })
    await audit.append(entry('a'))
    for (const id of ['b', 'c']) expect(await rejection(audit.append(entry(id)))).toEqual(unavailable)
    store.room = 10_000
    await audit.append(entry('d'))
    await audit.append(entry('e'))
    expect((await linesIn(folder)).map(({ seq, request_id }) => `${seq}${request_id}`)).toEqual(['1a', '2d', '3e'])
    expect(log.error.mock.calls.map(([fields]) => fields.event)).toEqual(['audit.failed'])
    expect(log.info.mock.calls.map(([fields]) => fields.event)).toEqual(['audit.recovered'])
    await audit.close()
    await expectSound(folder, 3)
  })

  it('is mended later where the half line could not be cut off at once', async () => {
    const folder = await folderOf()
    const store = disk(600)
    let broken = false
    const audit = await open(folder, {
      write: async (file, bytes) => {
        const cut = Object.getPrototypeOf(file).truncate
        file.truncate = async (length) => {
          if (broken) throw Object.assign(new Error('i/o error'), { code: 'EIO' })
          await cut.call(file, length)
        }
        return store.write(file, bytes)
      },
    })
    await audit.append(entry('a'))
    broken = true
    for (const id of ['b', 'c']) expect(await rejection(audit.append(entry(id)))).toEqual(unavailable)
    expect((await verify(folder)).broken?.why).toContain('not finished')
    broken = false
    store.room = 10_000
    await audit.append(entry('d'))
    await audit.close()
    await expectSound(folder, 2, audit.head.hash)
  })
})

describe('a crash in the middle of a line', () => {
  async function written(ids: readonly string[]): Promise<string> {
    const folder = await folderOf()
    const audit = await open(folder)
    for (const id of ids) await audit.append(entry(id))
    await audit.close()
    return folder
  }

  it('is set right wherever it was, and a line tells of it', async () => {
    const folder = await written(['a', 'b'])
    const path = join(folder, FIRST)
    const whole = await readFile(path)
    const firstLine = whole.indexOf('\n') + 1
    for (const length of [firstLine + 1, firstLine + 100, whole.length - 70, whole.length - 1]) {
      await writeFile(path, whole.subarray(0, length))
      const audit = await open(folder)
      await audit.close()
      expect((await linesIn(folder)).map(({ seq, request_id, mended }) => [seq, request_id ?? mended])).toEqual([
        [1, 'a'],
        [2, { file: FIRST, cut_bytes: length - firstLine }],
      ])
      await expectSound(folder, 2)
    }
  })

  it('in the first line of all leaves an empty log', async () => {
    const folder = await written(['a'])
    await truncate(join(folder, FIRST), 20)
    const audit = await open(folder)
    await audit.append(entry('b'))
    await audit.close()
    expect((await linesIn(folder)).map(({ seq }) => seq)).toEqual([1, 2])
    await expectSound(folder, 2)
  })

  it('is told with the next line that is written, where the disk is full', async () => {
    const folder = await written(['a', 'b'])
    const path = join(folder, FIRST)
    await truncate(path, (await stat(path)).size - 1)
    const store = disk(0)
    const audit = await open(folder, { write: store.write })
    expect(await rejection(audit.append(entry('c')))).toEqual(unavailable)
    store.room = 10_000
    await audit.append(entry('d'))
    await audit.close()
    expect((await linesIn(folder)).map(({ request_id, mended }) => request_id ?? typeof mended.cut_bytes)).toEqual([
      'a',
      'number',
      'd',
    ])
    await expectSound(folder, 3)
  })

  it('that spoiled whole lines leaves them for somebody to look at, and goes on in another file', async () => {
    const folder = await written(['a', 'b', 'c'])
    const path = join(folder, FIRST)
    const whole = await readFile(path)
    whole.fill(0, whole.indexOf('\n') + 20, whole.indexOf('\n') + 60)
    await writeFile(path, whole)
    await appendFile(path, '\0\0\0')
    const spoiled = await readFile(path)
    for (const id of ['d', 'e']) {
      const audit = await open(folder)
      await audit.append(entry(id))
      await audit.close()
    }
    expect(await readFile(path)).toEqual(spoiled)
    const [first, ...others] = await namesIn(folder)
    expect([first, others.length]).toEqual([FIRST, 1])
    const fresh = (await readFile(join(folder, String(others[0])), 'utf8')).trim().split('\n')
    expect(fresh.map((line) => JSON.parse(line)).map(({ request_id, mended }) => request_id ?? mended)).toEqual([
      { file: FIRST, unreadable_from_line: 2 },
      'd',
      'e',
    ])
    // What is broken stays broken: nobody is to think that the log is whole.
    expect((await verify(folder)).broken).toMatchObject({ file: FIRST, line: 2 })
  })
})
