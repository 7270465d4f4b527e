import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import {
  bounded,
  MAX_READ_BYTES,
  MAX_WRITE_BYTES,
  packFile,
  repack,
  tooLarge,
} from '../../../src/managers/worker-tar.ts'
import { collect, rejection } from '../support/streams.ts'
import { makeTar, readTar } from '../support/tar.ts'

const OWNER = { uid: 1000, gid: 100 }

/** What comes out of a caller's tar, or why nothing does. */
async function repacked(
  content: Buffer | Readable,
  { names = ['work'], fresh = true }: { names?: string[]; fresh?: boolean } = {},
) {
  const written = { path: '/x', bytes: 0, files: 0 }
  const source = Buffer.isBuffer(content) ? Readable.from([content]) : content
  const { tar, done } = repack(source, { names, fresh, owner: OWNER, written })
  const [entries, end] = await Promise.allSettled([readTar(tar), done])
  return {
    entries: entries.status === 'fulfilled' ? entries.value : [],
    written,
    error: end.status === 'rejected' ? (end.reason as unknown) : undefined,
    passed: entries.status === 'fulfilled',
  }
}

const namesOf = (entries: readonly { name: string }[]) => entries.map(({ name }) => name)

describe('repack', () => {
  it('puts files and folders beneath the folder, as files of the worker', async () => {
    const given = await makeTar(
      { name: 'a.txt', mode: 0o640, uid: 0, gid: 0, uname: 'root', content: 'text' },
      { name: 'sub/', type: 'directory', mode: 0o750, uid: 5, gid: 5 },
      { name: './sub/run.sh', mode: 0o4755, content: '#!/bin/sh\n' },
      { name: 'empty', content: '' },
    )
    const { entries, written, error } = await repacked(given)
    expect(error).toBeUndefined()
    expect(entries.map(({ name, type, mode, content }) => [name, type, mode, content.toString()])).toEqual([
      ['work/', 'directory', 0o755, ''],
      ['work/a.txt', 'file', 0o640, 'text'],
      ['work/sub/', 'directory', 0o750, ''],
      // Nothing comes in that runs as another user.
      ['work/sub/run.sh', 'file', 0o755, '#!/bin/sh\n'],
      ['work/empty', 'file', 0o644, ''],
    ])
    for (const { uid, gid } of entries) expect({ uid, gid }).toEqual(OWNER)
    expect(written).toMatchObject({ bytes: 14, files: 3 })
  })

  it('makes the folders that lead there only where they are missing', async () => {
    const given = await makeTar({ name: './', type: 'directory' }, { name: 'x', content: '1' })
    const names = ['a', 'b']
    expect(namesOf((await repacked(given, { names })).entries)).toEqual(['a/', 'a/b/', 'a/b/x'])
    expect(namesOf((await repacked(given, { names, fresh: false })).entries)).toEqual(['a/b/x'])
    expect(namesOf((await repacked(given, { names: [], fresh: false })).entries)).toEqual(['x'])
  })

  it('keeps long names and large contents whole', async () => {
    const name = `${'deep/'.repeat(40)}${'n'.repeat(90)}.txt`
    const content = 'x'.repeat(1_000_000)
    const { entries, written } = await repacked(await makeTar({ name, content }), { fresh: false })
    expect(namesOf(entries)).toEqual([`work/${name}`])
    expect(entries[0]?.content.toString()).toBe(content)
    expect(written.bytes).toBe(1_000_000)
  })

  it('reads a tar in whatever pieces it comes', async () => {
    const given = await makeTar({ name: 'a', content: 'x'.repeat(700) }, { name: 'b', content: 'yy' })
    const pieces = Array.from({ length: Math.ceil(given.length / 7) }, (_, at) => given.subarray(at * 7, at * 7 + 7))
    const { entries, written } = await repacked(Readable.from(pieces), { fresh: false })
    expect(entries.map(({ content }) => content.length)).toEqual([700, 2])
    expect(written).toMatchObject({ bytes: 702, files: 2 })
  })

  it('takes a tar of nothing', async () => {
    const { entries, written, error } = await repacked(await makeTar())
    expect(error).toBeUndefined()
    expect(namesOf(entries)).toEqual(['work/'])
    expect(written).toMatchObject({ bytes: 0, files: 0 })
  })

  it.each(['../x', '..', 'a/../../x', './../x', '/etc/passwd', '//etc/passwd', 'a/b/../../../x'])(
    'refuses the name %s',
    async (name) => {
      const { error, passed } = await repacked(await makeTar({ name: 'ok', content: '1' }, { name, content: 'x' }))
      expect(error).toMatchObject({
        code: 'validation_failed',
        message: expect.stringContaining(`"${name}"`),
        details: { errors: [{ path: 'body' }] },
      })
      expect(passed).toBe(false)
    },
  )

  it('refuses a name that only an extended header has', async () => {
    const given = await makeTar({ name: 'harmless', pax: { path: '../../etc/x' }, content: 'x' })
    expect((await repacked(given)).error).toMatchObject({ code: 'validation_failed' })
  })

  it('refuses a folder that leads out', async () => {
    const given = await makeTar({ name: '../', type: 'directory' })
    expect((await repacked(given)).error).toMatchObject({ code: 'validation_failed' })
  })

  it.each([
    ['symlink', { linkname: '/etc/passwd' }],
    ['link', { linkname: 'ok' }],
    ['character-device', { devmajor: 1, devminor: 3 }],
    ['block-device', { devmajor: 8, devminor: 0 }],
    ['fifo', {}],
  ] as const)('refuses a %s', async (type, fields) => {
    const given = await makeTar({ name: 'ok', content: '1' }, { name: 'bad', type, ...fields })
    const { error, passed } = await repacked(given)
    expect(error).toMatchObject({ code: 'validation_failed', message: expect.stringMatching(/"bad" is a /) })
    expect(passed).toBe(false)
  })

  it('refuses one file that is too large before it reads it', async () => {
    const { error, passed } = await repacked(headerOf('large', MAX_WRITE_BYTES + 1))
    expect(error).toMatchObject({ code: 'body_too_large', message: expect.stringContaining('256 MiB') })
    expect(passed).toBe(false)
  })

  it('refuses files that are too large together', async () => {
    const small = await makeTar({ name: 'small', content: '12345' })
    // Without the two blocks that end it.
    const both = Buffer.concat([small.subarray(0, -1024), headerOf('rest', MAX_WRITE_BYTES - 4)])
    expect((await repacked(both)).error).toMatchObject({ code: 'body_too_large' })
  })

  it('refuses more files than there may be', async () => {
    const header = await makeTar({ name: 'f', content: '' })
    const entry = header.subarray(0, 512)
    const given = Buffer.concat([...Array.from({ length: 20_002 }, () => entry), Buffer.alloc(1024)])
    const { error, written } = await repacked(given)
    expect(error).toMatchObject({ code: 'body_too_large' })
    expect(written.files).toBe(20_001)
  }, 60_000)

  it.each([
    ['what is no tar', Buffer.from('PK\x03\x04'.repeat(500))],
    ['a tar that ends within a header', Buffer.alloc(100, 'x')],
    ['a size below nothing', headerOf('negative', -512)],
  ])('refuses %s', async (_, given) => {
    expect((await repacked(given)).error).toMatchObject({ code: 'validation_failed' })
  })

  it('refuses a tar that ends within a file', async () => {
    const whole = await makeTar({ name: 'a', content: 'x'.repeat(5000) })
    const { error, passed } = await repacked(whole.subarray(0, 2048))
    expect(error).toMatchObject({ code: 'validation_failed' })
    expect(passed).toBe(false)
  })

  it('fails where the connection of the caller does', async () => {
    const whole = await makeTar({ name: 'a', content: 'x'.repeat(5000) })
    const broken = async function* () {
      yield whole.subarray(0, 2048)
      throw new Error('aborted')
    }
    const { error, passed } = await repacked(Readable.from(broken()))
    expect(error).toMatchObject({ message: expect.stringContaining('aborted') })
    expect(passed).toBe(false)
  })
})

/** A header alone, which claims a size in the binary form that GNU tar uses for large ones. */
function headerOf(name: string, size: number): Buffer {
  const block = Buffer.alloc(512)
  block.write(name, 0)
  block.write('0000644\0', 100)
  block.write('0000000\0', 108)
  block.write('0000000\0', 116)
  if (size < 0) block.fill(0xff, 124, 136)
  block.writeUInt8(size < 0 ? 0xff : 0x80, 124)
  block.writeBigInt64BE(BigInt(size), 128)
  block.write('00000000000\0', 136)
  block.write('        ', 148)
  block.write('0', 156)
  block.write('ustar\0', 257)
  block.write('00', 263)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return block
}

describe('packFile', () => {
  const packed = (content: Buffer[], bytes: number, names = ['a', 'b', 'c.bin']) =>
    readTar(packFile(Readable.from(content), { names, bytes, mode: 0o640, owner: OWNER }))

  it('makes the folders that lead to the file, all of them of the owner', async () => {
    const entries = await packed([Buffer.from([0, 1]), Buffer.from([255])], 3)
    expect(entries.map(({ name, type, mode }) => [name, type, mode])).toEqual([
      ['a/', 'directory', 0o755],
      ['a/b/', 'directory', 0o755],
      ['a/b/c.bin', 'file', 0o640],
    ])
    for (const { uid, gid } of entries) expect({ uid, gid }).toEqual(OWNER)
    expect(entries[2]?.content).toEqual(Buffer.from([0, 1, 255]))
  })

  it('makes none for a file in a folder that is there', async () => {
    expect(namesOf(await packed([Buffer.from('x')], 1, ['x']))).toEqual(['x'])
  })

  it.each([
    ['less than it was said to have', () => Readable.from([Buffer.from('abc')]), 5],
    ['more than it was said to have', () => Readable.from([Buffer.from('abcdefgh')]), 5],
    ['that breaks off', () => Readable.from(breakingOff()), 5],
  ])('fails alone for content of %s', async (_what, content, bytes) => {
    const failed = await rejection(readTar(packFile(content(), { names: ['x'], bytes, mode: 0o644, owner: OWNER })))
    expect(failed).toBeInstanceOf(Error)
  })

  it('packs an empty file', async () => {
    expect((await packed([], 0, ['x'])).map(({ name, content }) => [name, content.length])).toEqual([['x', 0]])
  })
})

async function* breakingOff() {
  yield Buffer.from('abc')
  throw new Error('the caller went away')
}

describe('repack refuses', () => {
  it.each([
    ['the root folder', { name: '/', type: 'directory' as const }],
    ['a file that stands for the folder', { name: '.', content: 'x' }],
    ['a file that climbs back to it', { name: 'a/..', content: 'x' }],
  ])('%s', async (_what, entry) => {
    const { error, entries } = await repacked(await makeTar(entry))
    expect(error).toMatchObject({ code: 'validation_failed' })
    expect(entries.filter(({ type }) => type === 'file')).toEqual([])
  })
})

describe('bounded', () => {
  it('passes on what there is', async () => {
    const parts = [Buffer.from('a'), Buffer.from('bc')]
    expect(await collect(bounded(Readable.from(parts), '/x'))).toEqual(parts)
  })

  it('ends with an error once there is more than one read may have', async () => {
    const part = Buffer.alloc(64 * 1024 * 1024)
    const times = MAX_READ_BYTES / part.length
    const source = function* (extra: Buffer[]) {
      for (let index = 0; index < times; index += 1) yield part
      yield* extra
    }
    const count = async (extra: Buffer[]) => {
      let bytes = 0
      for await (const piece of bounded(Readable.from(source(extra)), '/data')) bytes += piece.length
      return bytes
    }
    expect(await count([])).toBe(MAX_READ_BYTES)
    expect(await rejection(count([Buffer.from('x')]))).toMatchObject({
      code: 'body_too_large',
      message: expect.stringMatching(/^\/data .*1024 MiB/),
    })
  })
})

describe('tooLarge', () => {
  it('says what, and how much there may be', () => {
    expect(tooLarge('/x', 5 * 1024 * 1024)).toMatchObject({
      code: 'body_too_large',
      message: expect.stringMatching(/^\/x .*5 MiB/),
    })
  })
})
