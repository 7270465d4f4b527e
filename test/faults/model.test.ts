/**
 * Sequences of API calls at random, against the service in this process. Each answer, and then the
 * world, is held against a small model; at the end of each sequence all sessions are cleaned up, and
 * nothing may be left but what is another installation's.
 *
 * FAULTS_SEQUENCES sets how many on the in-memory engine (500), FAULTS_REAL_SEQUENCES how many on the
 * real one (25). A failure prints the FAULTS_SEED and FAULTS_PATH that replay it.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { MemoryEngine } from '../../src/engine/memory/memory-engine.ts'
import { TOOLBOX } from '../fixtures/images.ts'
import { seed } from '../support/random.ts'
import { report } from '../support/report.ts'
import { sequences } from './model/commands.ts'
import { Model, SESSIONS, WORKERS } from './model/model.ts'
import { compare } from './model/observe.ts'
import { cleanUp, restart } from './model/session-commands.ts'
import { counts } from './model/step.ts'
import { type Subject, World } from './model/world.ts'

const SEQUENCES = Number(process.env['FAULTS_SEQUENCES'] ?? 500)
const REAL_SEQUENCES = Number(process.env['FAULTS_REAL_SEQUENCES'] ?? 25)
const SEED = seed()
/** How long a smaller sequence is looked for that fails, too. */
const SHRINK_MS = 60_000
/** Of a failure: `path` and, behind a space, the replay path of its commands. */
const [PATH, REPLAY] = process.env['FAULTS_PATH']?.split(' ') ?? []

const MEMORY: Subject = {
  name: 'the in-memory engine',
  only: 'FAULTS_REAL_SEQUENCES=0',
  open: async () => new MemoryEngine({ images: [TOOLBOX] }),
  unpullable: 'image_not_found',
  subnets: '10.195.0.0/20',
  decoySubnet: '10.195.0.0/27',
  settleMs: 2_000,
}

const REAL: Subject = {
  name: 'a real engine',
  only: 'FAULTS_SEQUENCES=0',
  open: () => DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' }),
  unpullable: 'pull_failed',
  subnets: '10.195.16.0/20',
  decoySubnet: '10.195.16.0/27',
  settleMs: 20_000,
}

const isReplay = PATH !== undefined

describe.each([
  // Side by side, since much of a sequence is waiting.
  { subject: MEMORY, total: isReplay ? Math.min(1, SEQUENCES) : SEQUENCES, lanes: isReplay ? 1 : 8, maxCommands: 30 },
  { subject: REAL, total: isReplay ? Math.min(1, REAL_SEQUENCES) : REAL_SEQUENCES, lanes: 1, maxCommands: 30 },
])('on $subject.name', ({ subject, total, lanes, maxCommands }) => {
  it.runIf(total > 0)(`does what the model expects over ${total} sequences (seed ${SEED})`, async () => {
    counts.commands = 0
    const began = performance.now()
    const perLane = Array.from({ length: lanes }, (_, lane) => Math.floor((total + lane) / lanes))
    await Promise.all(perLane.map((numRuns, lane) => check(subject, { numRuns, seed: SEED + lane, maxCommands })))
    const seconds = (performance.now() - began) / 1000
    await report(`Model-based sequences on ${subject.name}`, {
      sequences: total,
      seed: SEED,
      commands: counts.commands,
      differences: 0,
      'sequences a second': (total / seconds).toFixed(1),
    })
  })
})

async function check(
  subject: Subject,
  { numRuns, seed: laneSeed, maxCommands }: { numRuns: number; seed: number; maxCommands: number },
): Promise<void> {
  if (numRuns === 0) return
  const commands = sequences({ maxCommands, ...(REPLAY === undefined ? {} : { replayPath: REPLAY }) })
  let giveUpAt = Number.POSITIVE_INFINITY
  const details = await fc.check(
    fc.asyncProperty(commands, fc.option(fc.nat(), { nil: undefined, freq: 1 }), async (sequence, slowness) => {
      if (Date.now() > giveUpAt) return
      const [session = ''] = SESSIONS
      const world = await World.open(subject, session, slowness)
      try {
        const model = new Model()
        await fc.asyncModelRun(() => ({ model, real: world }), sequence)
        await endAll(model, world)
      } catch (error) {
        giveUpAt = Math.min(giveUpAt, Date.now() + SHRINK_MS)
        throw error
      } finally {
        await world.close()
      }
    }),
    {
      seed: laneSeed,
      numRuns,
      ...(PATH === undefined ? {} : { path: PATH }),
      interruptAfterTimeLimit: 4 * 3600 * 1000,
      markInterruptAsFailure: false,
    },
  )
  if (!details.failed) return
  const [sequence, slowness] = details.counterexample ?? []
  const counterexample = `${String(sequence)} ${slowness === undefined ? '' : `on an engine slowed by ${slowness}`}`
  const replay = /replayPath="([^"]*)"/.exec(counterexample)?.[1] ?? ''
  const path = `${subject.only} FAULTS_SEED=${details.seed} FAULTS_PATH="${details.counterexamplePath} ${replay}"`
  console.log(`faults: a difference on ${subject.name}, replay with ${path}:\n${counterexample}`)
  throw new Error(`On ${subject.name}, replay with ${path}`, { cause: details.errorInstance })
}

/** After the cleanup of all sessions, and the deletion of what is in none, nothing is left. */
async function endAll(model: Model, world: World): Promise<void> {
  for (const session of SESSIONS) await cleanUp(model, world, { session, force: true, isDeleted: false })
  for (const name of WORKERS) {
    if (!model.workers.has(name)) continue
    expect((await world.call('DELETE', `/containers/worker/${name}`)).status).toBe(204)
    model.forgetWorker(name)
  }
  await compare(model, world)
  await restart(model, world)
  await compare(model, world)
  const { containers, networks, volumes, sessions } = model.snapshot()
  expect({ containers, networks, volumes, sessions }).toEqual({
    containers: [],
    networks: [],
    volumes: [],
    sessions: {},
  })
}
