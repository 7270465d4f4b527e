import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { AuditLog } from '../../../src/audit/audit-log.ts'
import { verify } from '../../../src/audit/verify.ts'
import { temporaryFolder } from '../support/folders.ts'
import { entry, linesIn, namesIn, silent } from './support.ts'

const ENTRIES = 9

let folder: string
let names: string[]
let contents: Buffer[]
let hashes: string[]

beforeEach(async () => {
  folder = join(await temporaryFolder(), 'audit')
  const audit = await AuditLog.open(folder, { log: silent, maxFileBytes: 1_200 })
  for (let count = 0; count < ENTRIES; count++) await audit.append(entry(`req-${count}`))
  await audit.close()
  names = await namesIn(folder)
  contents = await Promise.all(names.map((name) => readFile(join(folder, name))))
  hashes = (await linesIn(folder)).map(({ hash }) => hash)
  expect(names.length).toBeGreaterThanOrEqual(3)
})

/** What verify says of the log with other bytes in one of its files, which are put back. */
async function withBytes(file: number, bytes: Buffer) {
  const path = join(folder, String(names[file]))
  await writeFile(path, bytes)
  const verdict = await verify(folder)
  await writeFile(path, contents[file] ?? Buffer.alloc(0))
  return verdict
}

const place = fc.tuple(fc.nat(), fc.nat()).map(([a, b]) => {
  const file = a % names.length
  return { file, bytes: contents[file] ?? Buffer.alloc(0), at: b % (contents[file]?.length ?? 1) }
})

describe('verify', () => {
  it('counts what is whole, and tells its head', async () => {
    expect(await verify(folder)).toEqual({
      entries: ENTRIES,
      files: names.length,
      head: hashes.at(-1),
      broken: undefined,
      hasHead: undefined,
    })
  })

  it('finds any byte that is changed, in any file, and the line that it is in', async () => {
    await fc.assert(
      fc.asyncProperty(place, fc.integer({ min: 1, max: 255 }), async ({ file, bytes, at }, flip) => {
        const changed = Buffer.from(bytes)
        changed[at] = (changed[at] ?? 0) ^ flip
        const line = bytes.subarray(0, at).toString('latin1').split('\n').length
        expect((await withBytes(file, changed)).broken).toMatchObject({ file: names[file], line })
      }),
      { numRuns: 150 },
    )
  })

  it('finds each byte of a line end that is changed, to whatever', async () => {
    for (const [file, bytes] of contents.entries()) {
      for (let at = bytes.indexOf('\n'); at >= 0; at = bytes.indexOf('\n', at + 1)) {
        for (const value of [0x00, 0x0d, 0x20, 0x7d]) {
          const changed = Buffer.from(bytes)
          changed[at] = value
          expect((await withBytes(file, changed)).broken?.file).toBe(names[file])
        }
      }
    }
  })

  it('finds any byte that is put in or taken out', async () => {
    await fc.assert(
      fc.asyncProperty(place, fc.option(fc.nat(255)), async ({ file, bytes, at }, added) => {
        const changed = Buffer.concat([
          bytes.subarray(0, at),
          added === null ? Buffer.alloc(0) : Buffer.from([added]),
          bytes.subarray(added === null ? at + 1 : at),
        ])
        expect((await withBytes(file, changed)).broken).toBeDefined()
      }),
      { numRuns: 80 },
    )
  })

  it('finds a line that is missing, doubled or out of its order', async () => {
    const lines = contents[0]?.toString('latin1').split(/(?<=\n)/) ?? []
    const [first = '', second = '', ...others] = lines
    for (const arrangement of [
      [second, ...others],
      [first, first, second, ...others],
      [second, first, ...others],
    ])
      expect((await withBytes(0, Buffer.from(arrangement.join(''), 'latin1'))).broken).toBeDefined()
  })

  it('finds a file that is missing before the last, or has another name', async () => {
    for (const name of names.slice(0, -1)) {
      await rename(join(folder, name), join(folder, 'away'))
      expect((await verify(folder)).broken, name).toBeDefined()
      await rename(join(folder, 'away'), join(folder, name))
    }
    await rename(join(folder, String(names.at(-1))), join(folder, 'audit-000000000999.jsonl'))
    expect((await verify(folder)).broken).toMatchObject({ file: 'audit-000000000999.jsonl', line: 1 })
  })

  it('sees by a head that was kept elsewhere that the end was cut off', async () => {
    await rm(join(folder, String(names.at(-1))))
    const left = (await linesIn(folder)).length
    expect(await verify(folder)).toMatchObject({ entries: left, broken: undefined, head: hashes[left - 1] })
    expect(await verify(folder, { head: hashes.at(-1) })).toMatchObject({ broken: undefined, hasHead: false })
    for (const head of hashes.slice(0, left)) expect((await verify(folder, { head })).hasHead).toBe(true)
  })

  it('goes on behind files that were moved away, where their head is told', async () => {
    const moved = contents[0]?.toString('latin1').trim().split('\n').length ?? 0
    await rm(join(folder, String(names[0])))
    expect((await verify(folder)).broken).toMatchObject({ file: names[1], line: 1 })
    expect(await verify(folder, { after: hashes[moved - 1] })).toMatchObject({
      entries: ENTRIES - moved,
      broken: undefined,
    })
    expect((await verify(folder, { after: hashes[moved] })).broken).toBeDefined()
  })
})
