import { createHash } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Artifacts } from '../../../src/store/artifacts.ts'
import { temporaryFolder } from '../support/folders.ts'
import { cutAt, cuts, rejection } from '../support/streams.ts'

const sha256 = (content: Buffer | string) => createHash('sha256').update(content).digest('hex')

describe('Artifacts', () => {
  it('gives back what was saved, by its hash, in pieces of any size', async () => {
    const artifacts = new Artifacts(await temporaryFolder())
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), cuts, async (content, places) => {
        const bytes = Buffer.from(content)
        const pieces = cutAt(bytes, places).filter((piece) => piece.length > 0)
        const saved = await artifacts.save('exec_1', Readable.from(pieces))
        expect(saved).toEqual({ bytes: bytes.length, sha256: sha256(bytes) })
        expect(await buffer(artifacts.read('exec_1', saved.sha256))).toEqual(bytes)
      }),
      { numRuns: 20 },
    )
  })

  it('keeps one file of what is saved twice, also at once', async () => {
    const folder = await temporaryFolder()
    const artifacts = new Artifacts(folder)
    const save = () => artifacts.save('exec_1', Readable.from([Buffer.from('same')]))
    await Promise.all([save(), save(), save(), save()])
    expect(await readdir(join(folder, 'exec_1'))).toEqual([sha256('same')])
  })

  it('is readable to its owner alone', async () => {
    const folder = await temporaryFolder()
    const { sha256: name } = await new Artifacts(folder).save('exec_1', Readable.from([Buffer.from('secret')]))
    expect((await stat(join(folder, 'exec_1'))).mode & 0o777).toBe(0o700)
    expect((await stat(join(folder, 'exec_1', name))).mode & 0o777).toBe(0o600)
  })

  it('leaves nothing of a stream that broke off, and tells why', async () => {
    const folder = await temporaryFolder()
    const failure = new Error('the engine is away')
    const broken = Readable.from(
      (async function* () {
        yield Buffer.from('half')
        throw failure
      })(),
    )
    expect(await rejection(new Artifacts(folder).save('exec_1', broken))).toBe(failure)
    expect(await readdir(join(folder, 'exec_1'))).toEqual([])
  })

  it('fails to read what there is not', async () => {
    const artifacts = new Artifacts(await temporaryFolder())
    expect(await rejection(buffer(artifacts.read('exec_1', sha256('x'))))).toMatchObject({ code: 'ENOENT' })
  })

  it('removes those of one run, may be told again, and spares the others', async () => {
    const folder = await temporaryFolder()
    const artifacts = new Artifacts(folder)
    await artifacts.save('exec_1', Readable.from([Buffer.from('a')]))
    await artifacts.save('exec_2', Readable.from([Buffer.from('a')]))
    await artifacts.remove('exec_1')
    await artifacts.remove('exec_1')
    expect(await readdir(folder)).toEqual(['exec_2'])
  })
})
