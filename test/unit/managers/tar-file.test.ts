import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { setImmediate } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { firstFile, firstText } from '../../../src/managers/tar-file.ts'
import { rejection } from '../support/streams.ts'
import { makeTar } from '../support/tar.ts'

describe('firstFile', () => {
  const first = async (...entries: Parameters<typeof makeTar>) => firstFile(Readable.from([await makeTar(...entries)]))

  it('is the file that the tar begins with, and its size', async () => {
    const file = await first({ name: 'a', content: 'x'.repeat(100_000) }, { name: 'b', content: 'other' })
    expect(file?.bytes).toBe(100_000)
    expect((await buffer(file?.content ?? Readable.from([]))).toString()).toBe('x'.repeat(100_000))
  })

  it('may be empty', async () => {
    const file = await first({ name: 'a', content: '' })
    expect(file?.bytes).toBe(0)
    expect(await buffer(file?.content ?? Readable.from(['x']))).toHaveLength(0)
  })

  it.each([
    [
      'a folder',
      [
        { name: 'a/', type: 'directory' },
        { name: 'a/b', content: 'x' },
      ],
    ],
    ['a symlink', [{ name: 'a', type: 'symlink', linkname: '/etc/passwd' }]],
    ['nothing', []],
  ] as [string, Parameters<typeof makeTar>][])('is none where the tar begins with %s', async (_, entries) => {
    expect(await first(...entries)).toBeUndefined()
  })

  it('lets go of the tar once its content was read', async () => {
    const source = Readable.from([await makeTar({ name: 'a', content: 'text' }, { name: 'b', content: 'more' })])
    const file = await firstFile(source)
    await buffer(file?.content ?? Readable.from([]))
    expect(source.destroyed).toBe(true)
  })

  it('lets go of the tar where nobody wants its content', async () => {
    const source = new Readable({ read() {} })
    source.push((await makeTar({ name: 'a', content: 'x'.repeat(100_000) })).subarray(0, 50_000))
    const file = await firstFile(source)
    file?.content.destroy()
    await setImmediate()
    expect(source.destroyed).toBe(true)
  })

  it('fails where the tar does, in the middle of its content', async () => {
    const tar = await makeTar({ name: 'a', content: 'x'.repeat(100_000) })
    const broken = Readable.from(
      (async function* () {
        yield tar.subarray(0, 50_000)
        throw new Error('cut off')
      })(),
    )
    const file = await firstFile(broken)
    expect(await rejection(buffer(file?.content ?? Readable.from([])))).toMatchObject({ message: 'cut off' })
  })
})

describe('firstText', () => {
  const read = async (max: number, ...entries: Parameters<typeof makeTar>) => {
    const tar = Readable.from([await makeTar(...entries)])
    const text = await firstText(tar, max)
    await setImmediate()
    expect(tar.destroyed).toBe(true)
    return text
  }

  it('is the text of the file, up to a size', async () => {
    expect(await read(5, { name: 'passwd', content: 'über' })).toBe('über')
    expect(await read(4, { name: 'passwd', content: 'über' })).toBe('')
  })

  it('is empty where there is no regular file', async () => {
    expect(await read(100, { name: 'passwd', type: 'symlink', linkname: '/etc/shadow' })).toBe('')
  })
})
