/**
 * The engine is killed, with and without live restore, and frozen, at random moments under a mixed load,
 * while the service runs on. Then the world is looked at, as in sigkill.test.ts.
 *
 * FAULTS_DAEMON_KILLS (15) and FAULTS_DAEMON_FREEZES (10) set how often, FAULTS_SEED replays.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { TOOLBOX } from '../fixtures/images.ts'
import { Random, seed } from '../support/random.ts'
import { report } from '../support/report.ts'
import { Caller } from './caller.ts'
import { KillableService } from './killable-service.ts'
import { ENGINE_MS, Load, relic, STORE_MS } from './load.ts'
import { PrivateDaemon } from './private-daemon.ts'
import { World } from './world.ts'

const KILLS = Number(process.env['FAULTS_DAEMON_KILLS'] ?? 15)
const FREEZES = Number(process.env['FAULTS_DAEMON_FREEZES'] ?? 10)
const SEED = seed()
/** Until the service takes new work again, once the engine answers. */
const BACK_MS = 5_000
/** A ping's deadline: by then an engine that does not answer is known to be away. */
const PING_MS = 3_000
/** Restarts of a relic or worker wait longer and longer. */
const CARE_MS = 30_000
const POLL_MS = 20

const ENGINE_AWAY = ['killed', 'engine_unavailable', 'lost']

let dataDir: string
let daemon: PrivateDaemon
let service: KillableService
let engine: DockerEngine
let caller: Caller
let load: Load
let world: World
let random: Random

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'co-faults-'))
  daemon = await PrivateDaemon.create()
  engine = await DockerEngine.open({ host: daemon.host })
  service = await KillableService.create({
    DOCKER_HOST: daemon.host,
    CO_DATA_DIR: dataDir,
    CO_MAX_CONCURRENT_RUNS: '4',
    CO_SESSION_SUBNETS: '10.196.0.0/16',
    CO_LOG_LEVEL: 'warn',
  })
  await service.start()
  random = new Random(SEED)
  caller = new Caller(service.url)
  load = new Load(caller, random)
  world = new World({ caller, engine, dataDir, session: load.session })
})
afterEach(async ({ task }) => {
  if (task.result?.state === 'fail') console.log(service?.log.slice(-20_000))
  await service?.kill()
  await engine?.close()
  await daemon?.dispose()
  await rm(dataDir, { recursive: true, force: true })
})

it.runIf(KILLS > 0)(`loses, doubles and leaks nothing over ${KILLS} kills of the engine (seed ${SEED})`, async () => {
  const problems: string[] = []
  const recoveries: number[] = []
  const downtimes: { from: number; to: number }[] = []
  // Runs that nothing but the engine's restart could end.
  const living = new Set<string>()
  let restores = 0
  load.begin()
  for (let kill = 0; kill < KILLS; kill++) {
    await ensureNeighbours()
    await sleep(random.between(200, 1_500))
    const liveRestore = random.next() < 0.5
    if (liveRestore) restores += 1
    const running = await startedRuns()
    const from = Date.now()
    await daemon.kill()
    // One that lived through an earlier kill is ended by this one.
    for (const id of running) liveRestore ? living.add(id) : living.delete(id)
    await sleep(random.between(0, 1_500))
    await daemon.start({ liveRestore })
    downtimes.push({ from, to: Date.now() })
    recoveries.push(await untilReady())
    problems.push(...(await neighbourProblems(liveRestore)))
  }
  await load.end()

  const runs = await world.settled(load.accepted)
  problems.push(...(await world.problemsOf(load.accepted, runs, { codes: ENGINE_AWAY, downtimes })))
  for (const run of runs.filter(({ execution_id }) => living.has(execution_id))) {
    if (run.status !== 'completed') problems.push(`${run.execution_id} lived on, and is told as ${run.status}`)
  }
  problems.push(...(await after()))
  expect(problems).toEqual([])
  const completed = runs.filter(({ status }) => status === 'completed').length
  await report('dockerd killed', {
    kills: KILLS,
    'with live restore': restores,
    seed: SEED,
    runs: runs.length,
    completed,
    'lived on': living.size,
    lost: 0,
    doubled: 0,
    leaked: 0,
    'ready again within ms': Math.round(Math.max(...recoveries)),
    'slowest answer ms': Math.round(caller.slowestMs),
  })
})

it.runIf(FREEZES > 0)(`tells of an engine frozen ${FREEZES} times, and works again (seed ${SEED})`, async () => {
  const problems: string[] = []
  const recoveries: number[] = []
  load.begin()
  for (let freeze = 0; freeze < FREEZES; freeze++) {
    await ensureNeighbours()
    await sleep(random.between(200, 1_000))
    daemon.freeze()
    await sleep(random.between(0, 500))
    problems.push(...(await frozenProblems(freeze)))
    await sleep(random.between(0, 1_500))
    daemon.thaw()
    recoveries.push(await untilReady())
    problems.push(...(await neighbourProblems(true)))
  }
  await load.end()

  const runs = await world.settled(load.accepted)
  problems.push(...(await world.problemsOf(load.accepted, runs, { codes: ENGINE_AWAY })))
  problems.push(...(await after()))
  expect(problems).toEqual([])
  const completed = runs.filter(({ status }) => status === 'completed').length
  await report('dockerd frozen', {
    freezes: FREEZES,
    seed: SEED,
    runs: runs.length,
    completed,
    lost: 0,
    doubled: 0,
    leaked: 0,
    'ready again within ms': Math.round(Math.max(...recoveries)),
    'slowest answer ms': Math.round(caller.slowestMs),
  })
})

/** What holds after each series: nothing unclaimed, nothing left, nothing late. */
async function after(): Promise<string[]> {
  const unclaimed = (await world.unclaimed()).map((container) => `claimed by no record: ${container}`)
  const errors = (await world.cleanUp([...load.sessions, NEIGHBOURS])).map(
    (error) => `cleanup: ${JSON.stringify(error)}`,
  )
  const left = (await world.left()).map((resource) => `left: ${resource}`)
  return [...unclaimed, ...errors, ...left, ...caller.late, ...caller.broken]
}

/** While the engine is frozen: not ready, and what needs the engine is refused, for now. */
async function frozenProblems(round: number): Promise<string[]> {
  const problems: string[] = []
  const readiness = await caller.get('/readyz', { deadlineMs: PING_MS })
  if (readiness?.status !== 503) problems.push(`/readyz of a frozen engine: ${readiness?.status}`)
  const session_id = `${NEIGHBOURS}-${round}`
  const started = await Promise.all([
    caller.post('/containers/relic/start', relic(session_id), { deadlineMs: PING_MS }),
    caller.post(`/containers/worker/${session_id}/ensure`, { image: TOOLBOX, session_id }, { deadlineMs: PING_MS }),
  ])
  for (const answer of started) {
    const seconds = Number(answer?.headers.get('retry-after'))
    if (answer?.status !== 503 || !(seconds > 0)) {
      problems.push(
        `a start on a frozen engine: ${answer?.status}, Retry-After ${seconds} ${JSON.stringify(answer?.body)}`,
      )
    }
  }
  return problems
}

/** Milliseconds until new work is taken. */
async function untilReady(): Promise<number> {
  const began = performance.now()
  for (;;) {
    const answer = await caller.get('/readyz', { deadlineMs: PING_MS })
    const waited = performance.now() - began
    if (answer?.status === 200) {
      if (waited > BACK_MS) caller.late.push(`ready ${Math.round(waited)} ms after the engine`)
      return waited
    }
    if (waited > 10 * BACK_MS) throw new Error('the service does not come back with its engine')
    await sleep(POLL_MS)
  }
}

/** Ids of runs whose containers run by the word of the engine. */
async function startedRuns(): Promise<string[]> {
  const answer = await caller.get('/containers/tool?status=running&limit=100', { deadlineMs: STORE_MS })
  const items = (answer?.body['items'] ?? []) as { execution_id: string; container_id: string }[]
  const states = await Promise.all(
    items.map(async ({ execution_id, container_id }) => {
      const state = await engine.containers.inspect(container_id).catch(() => undefined)
      return state?.status === 'running' ? [execution_id] : []
    }),
  )
  return states.flat()
}

/** A relic and a worker that nobody but the engine's faults touches. */
const NEIGHBOURS = 'neighbours'

interface Neighbour {
  status: string
  failure: { code: string; message: string } | null
  container_id: string | null
}

async function ensureNeighbours(): Promise<void> {
  const deadlineMs = ENGINE_MS
  const [told] = await neighbours()
  if (told?.status !== 'healthy') {
    await caller.post('/containers/relic/start', relic(NEIGHBOURS), { deadlineMs })
  }
  const body = { image: TOOLBOX, session_id: NEIGHBOURS }
  await caller.post(`/containers/worker/${NEIGHBOURS}/ensure`, body, { deadlineMs })
}

/** The latest relic, and the worker. */
async function neighbours(): Promise<(Neighbour | undefined)[]> {
  const options = { deadlineMs: STORE_MS }
  const relics = await caller.get(`/containers/relic?session_id=${NEIGHBOURS}&limit=1`, options)
  const worker = await caller.get(`/containers/worker/${NEIGHBOURS}`, options)
  const [latest] = (relics?.body['items'] ?? []) as Neighbour[]
  return [latest, worker?.status === 200 ? (worker.body as unknown as Neighbour) : undefined]
}

/** Each neighbour runs, also by the word of the engine, or is told as ended with a cause that names the engine. */
async function neighbourProblems(livedOn: boolean): Promise<string[]> {
  const until = Date.now() + CARE_MS
  for (;;) {
    const problems: string[] = []
    for (const neighbour of await neighbours()) {
      const { status, failure, container_id } = neighbour ?? { status: 'gone', failure: null, container_id: null }
      const state =
        container_id === null ? undefined : await engine.containers.inspect(container_id).catch(() => undefined)
      const isUp = ['healthy', 'running'].includes(status) && state?.status === 'running'
      const isTold = status === 'failed' && /engine/i.test(failure?.message ?? '')
      if (!isUp && (livedOn || !isTold)) {
        problems.push(`a neighbour is ${status} ${JSON.stringify(failure)}, the engine says ${state?.status}`)
      }
    }
    if (problems.length === 0 || Date.now() > until) return problems
    await sleep(POLL_MS)
  }
}
