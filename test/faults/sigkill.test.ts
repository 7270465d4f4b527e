/**
 * The service is killed under a mixed load and started again, round after round: at random moments, and
 * at each named point of src/failpoints.ts. Then the world is looked at, as world.ts says: each run
 * that was accepted completes, its output whole and once, and began once; nothing is left that no record claims.
 *
 * FAULTS_KILLS sets how often at random (40), FAULTS_POINT_KILLS how often at each point (1), FAULTS_POINTS names
 * some points alone; FAULTS_SEED replays.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { FAILPOINTS, type Failpoint } from '../../src/failpoints.ts'
import { seed } from '../support/random.ts'
import { report } from '../support/report.ts'
import type { Load, Pace } from './load.ts'
import { beginTrial, type Trial } from './trial.ts'
import type { Allowances } from './world.ts'

const KILLS = Number(process.env['FAULTS_KILLS'] ?? 40)
const POINT_KILLS = Number(process.env['FAULTS_POINT_KILLS'] ?? 1)
const ONLY = process.env['FAULTS_POINTS']?.split(',')
const POINTS = FAILPOINTS.filter((point) => ONLY === undefined || ONLY.includes(point))
const SEED = seed()
/** A point that the load did not come by in so long is tried again: most take 5 s, on a busy machine a multiple of it. */
const REACHED_WITHIN_MS = 60_000
/** Nothing is parked while runs wait for their turn or start: for its points those who submit rest longer. */
const UNHURRIED: Pace['runs'] = [1_500, 3_000]
const POINT_TRIES = 4

/** A service that dies comes by little between two deaths: it is given much to do. */
const PACE: Pace = { runs: [150, 400], disturbances: [10, 100] }
/** No run fails since the service died: its engine lives. */
const NONE: Allowances = { codes: [], brokenCalls: true }

const begin = (trialSeed: number): Promise<Trial> =>
  beginTrial({ seed: trialSeed, pace: PACE, environment: { CO_SESSION_SUBNETS: '10.197.0.0/16' }, parks: true })

it(`loses, doubles and leaks nothing over ${KILLS} kills at random moments (seed ${SEED})`, async () => {
  const { load, random, service, world } = await begin(SEED)
  const recoveries: number[] = []
  for (let kill = 0; kill < KILLS; kill++) {
    load.begin()
    await sleep(random.between(20, 900))
    await service.kill()
    await load.pause()
    recoveries.push(await service.start())
  }
  const { runs, problems } = await world.verdict(load, NONE)
  expect(problems).toEqual([])
  await report('SIGKILL at random moments', {
    kills: KILLS,
    seed: SEED,
    ...flawless(runs, recoveries),
  })
})

it(`loses, doubles and leaks nothing over ${POINT_KILLS} kills at each of ${POINTS.length} points (seed ${SEED})`, async () => {
  const trial = await begin(SEED + 1)
  const { load, service, world } = trial
  const recoveries: number[] = []
  const missed: string[] = []
  let kills = 0
  for (const point of POINTS) {
    for (let round = 0; round < POINT_KILLS; round++) {
      let died = false
      for (let tries = 0; tries < POINT_TRIES && !died; tries++) died = await killedAt(point, trial)
      if (died) kills += 1
      else missed.push(point)
      recoveries.push(await service.start())
    }
  }
  const { runs, problems } = await world.verdict(load, NONE)
  expect(problems).toEqual([])
  // A point that is never passed shows nothing.
  expect(missed).toEqual([])
  await report('SIGKILL at named points', {
    points: POINTS.length,
    kills,
    seed: SEED,
    ...flawless(runs, recoveries),
  })
})

/** Loads a service that ends itself at a point; false where it did not come by. */
async function killedAt(point: Failpoint, { load, random, service }: Trial): Promise<boolean> {
  await service.kill()
  const isOfPool = point.startsWith('pool.')
  load.begin(disturbancesFor(point, load), isOfPool ? UNHURRIED : PACE.runs)
  try {
    return await service.startUntilDeath(
      // At boot the reconciler passes once, and then every 30 s.
      { FAULTS_POINT: point, FAULTS_POINT_PASSING: String(point.startsWith('reconcile.') ? 1 : random.between(1, 2)) },
      AbortSignal.timeout(REACHED_WITHIN_MS),
    )
  } finally {
    await load.pause()
  }
}

/** What makes the service come by a point, beside the runs. */
function disturbancesFor(point: Failpoint, { disturbances }: Load) {
  const { relic, brokenRelic, worker, exec, shortExec, refresh, cleanup } = disturbances
  // Its name has to be free: a relic that runs would keep it.
  if (point === 'relic.undo') return [brokenRelic, cleanup]
  // Of one that is new: what runs is as it was asked for.
  if (point === 'worker.ready') return [worker, cleanup]
  if (point.startsWith('relic.') || point.startsWith('network.')) return [relic, cleanup]
  if (point.startsWith('worker.re') || point === 'worker.halted') return [worker, refresh]
  if (point.startsWith('worker.') || point.startsWith('process.') || point === 'volume.created')
    return [worker, cleanup]
  if (point.startsWith('exec.')) return [worker, exec, shortExec]
  if (point.startsWith('pool.')) return []
  if (point.startsWith('session.')) return [worker, cleanup]
  return Object.values(disturbances)
}

/** What is told of a series in which nothing went wrong. */
const flawless = (runs: readonly unknown[], recoveries: readonly number[]) => ({
  runs: runs.length,
  lost: 0,
  doubled: 0,
  leaked: 0,
  'recovery p99 ms': p99(recoveries),
})

function p99(times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b)
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.99))] ?? 0)
}
