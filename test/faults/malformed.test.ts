/**
 * An engine that answers garbage: each method of the Docker adapter gets golden replies with one thing
 * wrong. Whatever comes, the call settles in its time, rejects only with an `EngineError`, leaves nothing
 * uncaught, and succeeds only with what the reply really says.
 *
 * FAULTS_REPLIES sets how many (5,000; 100,000 with `--full`), FAULTS_SEED replays.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { EngineError } from '../../src/errors.ts'
import { Random, seed } from '../support/random.ts'
import { report } from '../support/report.ts'
import { CALLS, type EngineCall } from './malformed/engine-calls.ts'
import { EnginePlayer } from './malformed/engine-player.ts'
import { type Golden, golden, mutated, type Reply } from './malformed/mutate.ts'

const REPLIES = Number(process.env['FAULTS_REPLIES'] ?? 5_000)
const SEED = seed()
const LANES = 16
/** Deadlines run twenty times faster, within these. */
const SHORTEST_DEADLINE_MS = 300
const LONGEST_DEADLINE_MS = 600
/** Timers from here on are deadlines of the adapter's; the suite's own are shorter. */
const DEADLINE_FROM_MS = 10_000
/** Of a call whose owner ends it. */
const OWNER_MS = 600
const MARGIN_MS = 5_000
const STRAY_MS = 100

/** What a question beyond the script is told: there is no such thing. */
const GONE: Golden = { status: 404, body: { kind: 'json', value: { message: 'No such container: x' } } }

const ALIVE: Golden = { status: 200, body: { kind: 'bytes', bytes: Buffer.from('OK') } }

interface Side {
  player: EnginePlayer
  engine: DockerEngine
}

interface Lane extends Side {
  /** Only ever pinged: the others ping by themselves behind a failure, in the midst of the next call. */
  pinged: Side
}

const uncaught: string[] = []
const note = (error: unknown) => {
  uncaught.push(error instanceof Error ? (error.stack ?? error.message) : String(error))
}
const timeout = AbortSignal.timeout
const timer = globalThis.setTimeout
let folder: string
let lanes: Lane[]

beforeAll(async () => {
  hurryDeadlines()
  process.on('uncaughtException', note)
  process.on('unhandledRejection', note)
  folder = await mkdtemp(join(tmpdir(), 'co-malformed-'))
  lanes = await Promise.all(Array.from({ length: LANES }, (_, number) => openLane(join(folder, `${number}.sock`))))
})
afterAll(async () => {
  AbortSignal.timeout = timeout
  globalThis.setTimeout = timer
  const sides = lanes.flatMap((lane) => [lane, lane.pinged])
  await Promise.all(sides.map(({ engine }) => engine.close()))
  await Promise.all(sides.map(({ player }) => player.close()))
  process.off('uncaughtException', note)
  process.off('unhandledRejection', note)
  await rm(folder, { recursive: true, force: true })
})

describe('an engine that answers as it should', () => {
  it.each(CALLS)('$name succeeds', async (call) => {
    const [lane] = lanes
    if (lane === undefined) throw new Error('no lane')
    const result = await play(sideOf(lane, call), call, call.replies.map(golden))
    expect(result.problem).toBeUndefined()
    expect(result.outcome).toBe('success')
  })
})

it(`holds against ${REPLIES} malformed replies (seed ${SEED})`, async () => {
  const problems: string[] = []
  const successes = new Set<string>()
  const failures = new Set<string>()
  const began = performance.now()
  let next = 0
  await Promise.all(
    lanes.map(async (lane) => {
      for (let number = next++; number < REPLIES; number = next++) {
        // Of its number alone: a reply is the same whatever the others do.
        const random = new Random(SEED + number * 7_919)
        const call = CALLS[number % CALLS.length] as EngineCall
        const wrong = random.between(0, call.replies.length - 1)
        const replies = call.replies.map((reply, at) => (at === wrong ? mutated(reply, random) : golden(reply)))
        const side = sideOf(lane, call)
        let { outcome, problem } = await play(side, call, replies)
        // The adapter asks for signs of life by itself, too, and may have got this ping's answer.
        if (call.name === 'ping' && problem !== undefined) ({ outcome, problem } = await play(side, call, replies))
        if (outcome === 'success') successes.add(call.name)
        else failures.add(call.name)
        if (problem !== undefined)
          problems.push(`#${number} ${call.name}: ${problem}; reply ${wrong}: ${replies[wrong]?.delivered.fault}`)
      }
    }),
  )
  const seconds = (performance.now() - began) / 1_000
  // What was left behind by the last calls has its time to go wrong.
  await sleep(LONGEST_DEADLINE_MS + STRAY_MS)
  expect(summaryOf(problems)).toEqual([])
  expect(uncaught).toEqual([])
  // Not each wrong value is one that matters; a suite where none or all of them do proves nothing.
  expect(failures.size).toBe(CALLS.length)
  expect(successes.size).toBeGreaterThan(CALLS.length / 2)
  await report('Malformed replies of the engine', {
    replies: REPLIES,
    seed: SEED,
    uncaught: 0,
    'false successes': 0,
    'replies a second': Math.round(REPLIES / seconds),
  })
})

/** The adapter's deadlines are constants, so the clocks that they are made of are set instead. */
function hurryDeadlines(): void {
  const hurried = (ms: number) => Math.min(Math.max(ms / 20, SHORTEST_DEADLINE_MS), LONGEST_DEADLINE_MS)
  AbortSignal.timeout = (ms) => timeout.call(AbortSignal, hurried(ms))
  const shortened = (work: (...given: unknown[]) => void, ms = 0, ...given: unknown[]) =>
    timer(work, ms >= DEADLINE_FROM_MS ? hurried(ms) : ms, ...given)
  globalThis.setTimeout = Object.assign(shortened, { __promisify__: timer.__promisify__ }) as typeof timer
}

async function openLane(socket: string): Promise<Lane> {
  const [player, pinged] = [
    new EnginePlayer(golden(GONE).wire, golden(ALIVE).wire),
    // A ping that fails is followed by others until one is answered.
    new EnginePlayer(golden(ALIVE).wire),
  ]
  await player.listen(socket)
  await pinged.listen(`${socket}.ping`)
  const engineAt = (path: string) => new DockerEngine({ host: `unix://${path}` })
  return { player, engine: engineAt(socket), pinged: { player: pinged, engine: engineAt(`${socket}.ping`) } }
}

function sideOf(lane: Lane, call: EngineCall): Side {
  return call.name === 'ping' ? lane.pinged : lane
}

/** One call against these replies, and what is wrong with how it ended. */
async function play(
  { player, engine }: Side,
  call: EngineCall,
  replies: readonly Reply[],
): Promise<{ outcome: 'success' | 'failure' | 'none'; problem: string | undefined }> {
  await engine.availability.restored(new AbortController().signal)
  player.script = replies.map((reply) => reply.wire)
  const owner = new AbortController()
  const ending = setTimeout(() => owner.abort(), OWNER_MS)
  let overdue: NodeJS.Timeout | undefined
  const late = new Promise<'late'>((resolve) => {
    overdue = setTimeout(() => resolve('late'), Math.max(LONGEST_DEADLINE_MS, OWNER_MS) + MARGIN_MS)
  })
  const told = replies.map((reply) => reply.delivered)
  try {
    const settled = await Promise.race([call.make(engine, owner.signal).then((value) => ({ value })), late])
    if (settled === 'late') return { outcome: 'none', problem: 'did not settle in its time' }
    const lie = call.lie(settled.value, told, owner.signal.aborted)
    return { outcome: 'success', problem: lie === undefined ? undefined : `a false success: ${lie}` }
  } catch (error) {
    const expected = error instanceof EngineError || (error as Error).name === 'ArchiveBroke'
    return { outcome: 'failure', problem: expected ? undefined : `rejected with ${describeError(error)}` }
  } finally {
    clearTimeout(ending)
    clearTimeout(overdue)
    // A request that was given up may still be on its way, and is not to be told the next call's replies.
    if (player.script.length === replies.length) await sleep(STRAY_MS)
  }
}

function describeError(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message).split('\n').slice(0, 4).join(' ') : String(error)
}

/** The first few of each kind: thousands of lines tell no more. */
function summaryOf(problems: readonly string[]): string[] {
  const kinds = new Map<string, string[]>()
  for (const problem of problems) {
    const kind = problem.replace(/^#\d+ /, '').replace(/; reply.*/, '')
    kinds.set(kind, [...(kinds.get(kind) ?? []), problem])
  }
  return [...kinds.values()].flatMap((found) => [`${found.length} of these:`, ...found.slice(0, 3)])
}
