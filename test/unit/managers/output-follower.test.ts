/** Whether the end of an attachment is believed, by when its process ended. */
import { PassThrough } from 'node:stream'
import { finished } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import { Availability } from '../../../src/engine/availability.ts'
import type { Attachment, ContainerState, Engine, OutputChunk } from '../../../src/engine/engine.ts'
import { HalfClose } from '../../../src/engine/half-close.ts'
import { KnownOutput } from '../../../src/managers/known-output.ts'
import { OutputFollower } from '../../../src/managers/output-follower.ts'

const CAME = 'came\n'
const REST = 'the rest\n'

const chunk = (text: string): OutputChunk => ({ stream: 'stdout', bytes: Buffer.from(text) })

interface Setting {
  /** By the engine's clock, in milliseconds behind the end of the attachment; unknown where absent. */
  finished?: number
  /** Milliseconds from the end of the attachment until it is known that the process has ended. */
  knownAfter?: number
  stdinEnded?: boolean
  interrupted?: boolean
  /** What the engine says of the container where it is asked. */
  status?: ContainerState['status']
}

/** Text that was taken of a process whose attachment ended behind `CAME`, and whose log has `REST` as well. */
async function taken({
  finished: offset,
  knownAfter = 0,
  stdinEnded = false,
  interrupted = false,
  status = 'running',
}: Setting) {
  const stdin = new PassThrough()
  const attachment: Attachment = {
    output: (async function* () {
      yield chunk(CAME)
    })(),
    stdin,
    close: () => {},
  }
  const containers = {
    inspect: async () => ({ status }) as ContainerState,
    logs: async function* () {
      yield chunk(CAME + REST)
    },
  } as unknown as Engine['containers']
  if (stdinEnded) {
    stdin.end()
    await finished(stdin, { readable: false })
  }
  let text = ''
  const follower = new OutputFollower(
    {
      engine: { containers, availability: new Availability() },
      containerId: 'c'.repeat(64),
      known: new KnownOutput(),
      take: async ({ bytes }) => {
        text += bytes.toString()
      },
      detach: new AbortController().signal,
      drainMs: 5_000,
      halfClose: new HalfClose().watch(stdin, { teaches: false }),
      log: pino({ level: 'silent' }),
    },
    attachment,
  )
  await expect.poll(() => text).toContain(CAME)
  const endedAt = Date.now()
  if (interrupted) follower.interrupted()
  await sleep(knownAfter)
  await follower.drained(offset === undefined ? undefined : new Date(endedAt + offset))
  return text
}

describe('an attachment that ended', () => {
  it.each<[string, Setting]>([
    ['behind its process', { finished: -1_000 }],
    ['behind its process, which the engine takes long to tell', { finished: -1_000, knownAfter: 600 }],
    [
      'behind its process, which the engine takes so long to tell that it is asked',
      { finished: -1_000, knownAfter: 1_500, status: 'exited' },
    ],
    ['behind its process, which read its stdin to the end', { finished: -1_000, stdinEnded: true }],
    ['by the clock of another day, when its process is known to have ended', { finished: -86_400_000 }],
    ['when its process is known to have ended', {}],
  ])('is believed: %s', async (_, setting) => {
    expect(await taken(setting)).toBe(CAME)
  })

  it.each<[string, Setting]>([
    ['a second before its process', { finished: 1_000, knownAfter: 300 }],
    ['a moment before its process, after its stdin', { finished: 60, stdinEnded: true }],
    ['a moment before its process, after its stdin, but was read late', { finished: -100, stdinEnded: true }],
    [
      'by the clock of another day, long before its process is known to have ended',
      { finished: 86_400_000, knownAfter: 300 },
    ],
    ['long before its process is known to have ended, nobody knows when', { knownAfter: 300 }],
    ['about the time of its process, when the connections broke', { finished: -1_000, interrupted: true }],
  ])('is not believed: %s', async (_, setting) => {
    expect(await taken(setting)).toBe(CAME + REST)
  })
})
