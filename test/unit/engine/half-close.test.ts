import { PassThrough } from 'node:stream'
import { finished } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { HalfClose, type HalfCloseTrial } from '../../../src/engine/half-close.ts'

/** A trial whose stdin has ended, long enough ago for what was on its way. */
async function triedAfterEnd(halfClose: HalfClose, before?: (trial: HalfCloseTrial) => void): Promise<HalfCloseTrial> {
  const stdin = new PassThrough()
  const trial = halfClose.trial(stdin)
  if (trial === undefined) throw new Error('nothing is open to be tried')
  expect(trial.isUnsure).toBe(false)
  before?.(trial)
  stdin.end()
  await finished(stdin, { readable: false })
  await sleep(20)
  expect(trial.isUnsure).toBe(true)
  return trial
}

it('is learned from one attachment that gave all after its stdin had ended', async () => {
  const halfClose = new HalfClose()
  const trial = await triedAfterEnd(halfClose)
  trial.gave(3)
  expect(halfClose.trial(new PassThrough())).toBeDefined()
  trial.conclude()
  expect(halfClose.trial(new PassThrough())).toBeUndefined()
})

it.each<[string, (trial: HalfCloseTrial) => void, ((trial: HalfCloseTrial) => void)?]>([
  ['there was no output', () => {}],
  [
    'the log had more',
    (trial) => {
      trial.gave(3)
      trial.missed()
    },
  ],
  ['some came before the end of stdin', (trial) => trial.gave(3), (trial) => trial.gave(3)],
])('is not learned where %s', async (_, after, before) => {
  const halfClose = new HalfClose()
  const trial = await triedAfterEnd(halfClose, before)
  after(trial)
  trial.conclude()
  expect(halfClose.trial(new PassThrough())).toBeDefined()
})

it('is not learned from what was on its way when stdin ended', async () => {
  const halfClose = new HalfClose()
  const stdin = new PassThrough()
  stdin.end()
  await finished(stdin, { readable: false })
  const trial = halfClose.trial(stdin)
  expect(trial?.isUnsure).toBe(true)
  trial?.gave(3)
  trial?.conclude()
  expect(halfClose.trial(new PassThrough())).toBeDefined()
})
