import { randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { KnownOutput } from '../../../src/managers/known-output.ts'
import { tellSpool } from '../../../src/managers/output-source.ts'
import { Spools } from '../../../src/store/spools.ts'
import { temporaryFolder } from '../support/folders.ts'

it('tells what a spool has byte for byte, text or not, so that its place in the engine’s log is found', async () => {
  const spools = new Spools(await temporaryFolder())
  const written = randomBytes(100_000)
  const writer = await spools.open('run')
  for (let from = 0; from < written.length; from += 1_000)
    await writer.append('stdout', written.subarray(from, from + 1_000))
  await spools.seal('run')
  const known = new KnownOutput()
  const told: Buffer[] = []
  await tellSpool(spools, 'run', [known, { add: ({ bytes }) => told.push(Buffer.from(bytes)), omit: () => {} }])
  expect(Buffer.concat(told).equals(written)).toBe(true)
  const search = known.stdout.search()
  search.add(written)
  search.add(randomBytes(5_000))
  expect(search.place).toBe(written.length)
})
