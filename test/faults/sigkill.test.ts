/**
 * The service is killed under a mixed load and started again, round after round: at random moments, and
 * at each named point of src/failpoints.ts. Then the world is looked at, as mixed-load.ts says.
 *
 * FAULTS_KILLS sets how often at random (40), FAULTS_POINT_KILLS how often at each point (1); FAULTS_SEED replays.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { FAILPOINTS, type Failpoint } from '../../src/failpoints.ts'
import { removeAll } from '../fixtures/service.ts'
import { Random, seed } from '../support/random.ts'
import { report } from '../support/report.ts'
import { KillableService } from './killable-service.ts'
import { instanceOf, MixedLoad } from './mixed-load.ts'

const KILLS = Number(process.env['FAULTS_KILLS'] ?? 40)
const POINT_KILLS = Number(process.env['FAULTS_POINT_KILLS'] ?? 1)
const SEED = seed()
/** A point that the load did not come by in so long is tried again. */
const REACHED_WITHIN_MS = 10_000
const POINT_TRIES = 4

let dataDir: string
let service: KillableService
let engine: DockerEngine

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'co-faults-'))
  engine = await DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' })
  service = await KillableService.create({
    CO_DATA_DIR: dataDir,
    CO_MAX_CONCURRENT_RUNS: '4',
    CO_SESSION_SUBNETS: '10.197.0.0/16',
    CO_LOG_LEVEL: 'warn',
  })
})
afterAll(async () => {
  await service?.kill()
  const instance = instanceOf(dataDir)
  if (instance !== undefined) await removeAll(engine, instance)
  await engine?.close()
  await rm(dataDir, { recursive: true, force: true })
})

it(`loses, doubles and leaks nothing over ${KILLS} kills at random moments (seed ${SEED})`, async () => {
  const random = new Random(SEED)
  const load = new MixedLoad({ url: service.url, dataDir, engine, random })
  const recoveries = [await service.start()]
  for (let kill = 0; kill < KILLS; kill++) {
    const over = new AbortController()
    const loading = load.run(over.signal)
    await sleep(random.between(20, 900))
    await service.kill()
    over.abort()
    await loading
    recoveries.push(await service.start())
  }
  const { runs, problems } = await load.verdict()
  expect(problems).toEqual([])
  await service.kill()
  await report('SIGKILL at random moments', {
    kills: KILLS,
    seed: SEED,
    runs,
    lost: 0,
    doubled: 0,
    leaked: 0,
    'recovery p99 ms': p99(recoveries),
  })
})

it(`loses, doubles and leaks nothing over ${POINT_KILLS} kills at each of ${FAILPOINTS.length} points (seed ${SEED})`, async () => {
  const random = new Random(SEED + 1)
  const load = new MixedLoad({ url: service.url, dataDir, engine, random })
  const recoveries: number[] = []
  const missed: string[] = []
  let kills = 0
  for (const point of FAILPOINTS) {
    for (let round = 0; round < POINT_KILLS; round++) {
      let died = false
      for (let tries = 0; tries < POINT_TRIES && !died; tries++) died = await killedAt(point, load, random)
      if (died) kills += 1
      else missed.push(point)
      recoveries.push(await service.start())
    }
  }
  const { runs, problems } = await load.verdict()
  expect(problems).toEqual([])
  // A point that is never passed shows nothing.
  expect(missed).toEqual([])
  await service.kill()
  await report('SIGKILL at named points', {
    points: FAILPOINTS.length,
    kills,
    seed: SEED,
    runs,
    lost: 0,
    doubled: 0,
    leaked: 0,
    'recovery p99 ms': p99(recoveries),
  })
})

/** Loads a service that ends itself at a point; false where it did not come by. */
async function killedAt(point: Failpoint, load: MixedLoad, random: Random): Promise<boolean> {
  await service.kill()
  const over = new AbortController()
  const reached = service
    .startUntilDeath(
      // At boot the reconciler passes once, and then every 30 s.
      { FAULTS_POINT: point, FAULTS_POINT_PASSING: String(point.startsWith('reconcile.') ? 1 : random.between(1, 2)) },
      AbortSignal.timeout(REACHED_WITHIN_MS),
    )
    .finally(() => over.abort())
  await Promise.all([reached, load.run(over.signal, disturbancesFor(point, load))])
  return reached
}

/** What makes the service come by a point, beside the runs. */
function disturbancesFor(point: Failpoint, { disturbances }: MixedLoad) {
  const { relic, brokenRelic, worker, exec, shortExec, refresh, cleanup } = disturbances
  if (point === 'relic.undo') return [brokenRelic]
  if (point.startsWith('relic.') || point.startsWith('network.')) return [relic, cleanup]
  if (point.startsWith('worker.re') || point === 'worker.halted') return [worker, refresh]
  if (point.startsWith('worker.') || point.startsWith('process.') || point === 'volume.created')
    return [worker, cleanup]
  if (point.startsWith('exec.')) return [worker, exec, shortExec]
  if (point.startsWith('session.')) return [worker, cleanup]
  return Object.values(disturbances)
}

function p99(times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b)
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.99))] ?? 0)
}
