import { PassThrough } from 'node:stream'
import { finished } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { HalfClose } from '../../../src/engine/half-close.ts'

/** Milliseconds; far from each other, for busy machines. */
const LONG = 300

async function ended(): Promise<PassThrough> {
  const stdin = new PassThrough()
  stdin.end()
  await finished(stdin, { readable: false })
  return stdin
}

it('believes no output that ends after its stdin, until another one came as late', async () => {
  const halfClose = new HalfClose()
  const stdin = await ended()
  const first = halfClose.watch(stdin, { teaches: true })
  const other = halfClose.watch(stdin, { teaches: true })
  const now = performance.now()
  expect(other.isDoubtful(now + 1)).toBe(true)
  await sleep(LONG)
  first.gave()
  expect(other.isDoubtful(now + 1)).toBe(false)
  expect(other.isDoubtful(now + 10 * LONG)).toBe(true)
})

it('learns nothing from output that may have been on its way when stdin ended', async () => {
  const halfClose = new HalfClose()
  const watched = halfClose.watch(await ended(), { teaches: false })
  await sleep(10)
  watched.gave()
  expect(watched.isDoubtful(performance.now())).toBe(true)
})

it('believes output whose stdin is open', async () => {
  const halfClose = new HalfClose()
  const stdin = new PassThrough()
  const watched = halfClose.watch(stdin, { teaches: true })
  watched.gave()
  expect(watched.isDoubtful(performance.now() + LONG)).toBe(false)
  stdin.end()
  await finished(stdin, { readable: false })
  expect(watched.isDoubtful(performance.now() + LONG)).toBe(true)
})
