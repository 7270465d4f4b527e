import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { jsonLines } from '../../../../src/engine/docker/json-lines.ts'
import { collect, cutAt, cuts, reads, rejection } from '../../support/streams.ts'

describe('jsonLines', () => {
  it('gives each object of a stream, in pieces of any size', async () => {
    const values = fc.array(fc.record({ status: fc.string({ unit: 'grapheme' }), id: fc.integer() }), { maxLength: 8 })
    await fc.assert(
      fc.asyncProperty(values, cuts, fc.boolean(), async (objects, places, ended) => {
        const lines = objects.map((object) => JSON.stringify(object)).join('\r\n') + (ended ? '\r\n' : '')
        const pieces = cutAt(Buffer.from(lines), places)
        expect(await collect(jsonLines(reads(pieces)))).toEqual(objects)
      }),
    )
  })

  it('keeps a character whole that is split between reads', async () => {
    const bytes = Buffer.from('{"stream":"漢🦀"}\n')
    for (let place = 0; place <= bytes.length; place++) {
      const values = await collect(jsonLines(reads([bytes.subarray(0, place), bytes.subarray(place)])))
      expect(values, `split at ${place}`).toEqual([{ stream: '漢🦀' }])
    }
  })

  it('passes over blank lines', async () => {
    expect(await collect(jsonLines(reads([Buffer.from('\n  \r\n{"a":1}\n\n')])))).toEqual([{ a: 1 }])
    expect(await collect(jsonLines(reads([])))).toEqual([])
  })

  it('gives an object as soon as its line ends', async () => {
    const lines = jsonLines(
      (async function* () {
        yield Buffer.from('{"a":1}\n{"b"')
        throw new Error('the reader asked for more than it needs')
      })(),
    )
    expect(await lines.next()).toEqual({ done: false, value: { a: 1 } })
    await lines.return(undefined)
  })

  it.each(['<html>', '{"a":1', '{"a":1} trailing'])('refuses the line %s and shows it', async (line) => {
    const error = await rejection(collect(jsonLines(reads([Buffer.from(`${line}\n`)]))))
    expect(error).toMatchObject({ fault: 'protocol' })
    expect((error as Error).message).toContain(line)
  })

  it('shows at most 200 characters of a line that is not JSON', async () => {
    const error = await rejection(collect(jsonLines(reads([Buffer.from('x'.repeat(10_000))]))))
    expect((error as Error).message.length).toBeLessThan(300)
  })

  it('refuses a line longer than 4 MiB before it holds much more', async () => {
    let given = 0
    async function* endless() {
      for (;;) {
        given += 64 * 1024
        yield Buffer.alloc(64 * 1024, 'x')
      }
    }
    expect(await rejection(collect(jsonLines(endless())))).toMatchObject({ fault: 'protocol' })
    expect(given).toBeLessThanOrEqual(4 * 2 ** 20 + 64 * 1024)
  })

  it('refuses a line longer than 4 MiB that comes whole, and takes one just within', async () => {
    const line = (bytes: number) => Buffer.from(`"${'x'.repeat(bytes - 2)}"\n`)
    const most = 4 * 2 ** 20
    expect(await collect(jsonLines(reads([line(most)])))).toEqual(['x'.repeat(most - 2)])
    expect(await rejection(collect(jsonLines(reads([line(most + 1)]))))).toMatchObject({ fault: 'protocol' })
  })
})
