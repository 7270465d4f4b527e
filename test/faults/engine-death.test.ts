/**
 * The engine is killed, with and without live restore, and frozen, at random moments under a mixed load,
 * while the service runs on. Then the world is looked at, as in sigkill.test.ts.
 *
 * FAULTS_DAEMON_KILLS (15) and FAULTS_DAEMON_FREEZES (10) set how often, FAULTS_SEED replays.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it, onTestFinished } from 'vitest'
import { TOOLBOX } from '../fixtures/images.ts'
import { seed } from '../support/random.ts'
import { report } from '../support/report.ts'
import type { Caller } from './caller.ts'
import { ENGINE_MS, type Pace, relic, STORE_MS, WHOLE_OUTPUT } from './load.ts'
import { PrivateDaemon } from './private-daemon.ts'
import { beginTrial, flawless, type Trial, untilReady } from './trial.ts'
import type { Downtime, Run } from './world.ts'

const KILLS = Number(process.env['FAULTS_DAEMON_KILLS'] ?? 15)
const FREEZES = Number(process.env['FAULTS_DAEMON_FREEZES'] ?? 10)
const SEED = seed()
const PACE: Pace = { runs: [200, 800], disturbances: [20, 300] }
/** A ping's deadline: by then an engine that does not answer is known to be away. */
const PING_MS = 3_000
/** Restarts of a relic or worker wait longer and longer. */
const CARE_MS = 30_000
const POLL_MS = 20

const ENGINE_AWAY = ['killed', 'engine_unavailable', 'lost']

/** On an engine of its own. */
async function begin(): Promise<Trial & { daemon: PrivateDaemon }> {
  const daemon = await PrivateDaemon.create()
  onTestFinished(() => daemon.dispose())
  const environment = { DOCKER_HOST: daemon.host, CO_SESSION_SUBNETS: '10.196.0.0/16' }
  return { ...(await beginTrial({ seed: SEED, pace: PACE, host: daemon.host, environment })), daemon }
}

it.runIf(KILLS > 0)(`loses, doubles and leaks nothing over ${KILLS} kills of the engine (seed ${SEED})`, async () => {
  const trial = await begin()
  const { caller, daemon, load, random, world } = trial
  const problems: string[] = []
  const recoveries: number[] = []
  const downtimes: Downtime[] = []
  // Runs that nothing but the engine's restart could end.
  const living = new Set<string>()
  let restores = 0
  load.begin()
  for (let kill = 0; kill < KILLS; kill++) {
    await ensureNeighbours(trial)
    await sleep(random.between(200, 1_500))
    const liveRestore = random.next() < 0.5
    if (liveRestore) restores += 1
    const running = await startedRuns(trial)
    const from = Date.now()
    await daemon.kill()
    // One that lived through an earlier kill is ended by this one.
    for (const id of running) liveRestore ? living.add(id) : living.delete(id)
    await sleep(random.between(0, 1_500))
    await daemon.start({ liveRestore })
    downtimes.push({ from, to: Date.now() })
    recoveries.push(await untilReady(caller))
    problems.push(...(await neighbourProblems(trial, liveRestore)))
  }

  const { runs, ...verdict } = await world.verdict(load, { codes: ENGINE_AWAY, downtimes }, [NEIGHBOURS])
  problems.push(...verdict.problems)
  const livedOn = runs.filter(({ execution_id }) => living.has(execution_id))
  const isCodeLost = (run: Run) => hasLostItsCode(run, downtimes)
  for (const run of livedOn.filter(({ status }) => status !== 'completed')) {
    if (isCodeLost(run)) continue
    problems.push(`${run.execution_id} lived on, and is told as ${run.status} ${JSON.stringify(run.failure)}`)
  }
  expect(problems).toEqual([])
  await report('dockerd killed', {
    kills: KILLS,
    'with live restore': restores,
    seed: SEED,
    'lived on': livedOn.length,
    'of these, with the exit code lost': livedOn.filter(isCodeLost).length,
    ...flawless(trial, runs, recoveries),
  })
})

it.runIf(FREEZES > 0)(`tells of an engine frozen ${FREEZES} times, and works again (seed ${SEED})`, async () => {
  const trial = await begin()
  const { caller, daemon, load, random, world } = trial
  const problems: string[] = []
  const recoveries: number[] = []
  load.begin()
  for (let freeze = 0; freeze < FREEZES; freeze++) {
    await ensureNeighbours(trial)
    await sleep(random.between(200, 1_000))
    daemon.freeze()
    await sleep(random.between(0, 500))
    problems.push(...(await frozenProblems(trial, freeze)))
    await sleep(random.between(0, 1_500))
    daemon.thaw()
    recoveries.push(await untilReady(caller))
    problems.push(...(await neighbourProblems(trial, true)))
  }

  const { runs, ...verdict } = await world.verdict(load, { codes: ENGINE_AWAY }, [NEIGHBOURS])
  expect([...problems, ...verdict.problems]).toEqual([])
  await report('dockerd frozen', { freezes: FREEZES, seed: SEED, ...flawless(trial, runs, recoveries) })
})

/**
 * True where a run ended by itself just as its engine was killed. When that is back it knows nothing of the
 * end but the output, and takes its own start for the time.
 */
function hasLostItsCode({ exit_code, stdout, completed_at }: Run, downtimes: readonly Downtime[]): boolean {
  const at = Date.parse(completed_at)
  return exit_code === 255 && stdout === WHOLE_OUTPUT && downtimes.some(({ from, to }) => at >= from && at <= to)
}

/** While the engine is frozen: not ready, and what needs the engine is refused, for now. */
async function frozenProblems({ caller }: Trial, round: number): Promise<string[]> {
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

/** Ids of runs whose containers run by the word of the engine. */
async function startedRuns({ caller, engine }: Trial): Promise<string[]> {
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

async function ensureNeighbours({ caller }: Trial): Promise<void> {
  const deadlineMs = ENGINE_MS
  const [told] = await neighbours(caller)
  if (told?.status !== 'healthy') {
    await caller.post('/containers/relic/start', relic(NEIGHBOURS), { deadlineMs })
  }
  const body = { image: TOOLBOX, session_id: NEIGHBOURS }
  await caller.post(`/containers/worker/${NEIGHBOURS}/ensure`, body, { deadlineMs })
}

/** The latest relic, and the worker. */
async function neighbours(caller: Caller): Promise<(Neighbour | undefined)[]> {
  const options = { deadlineMs: STORE_MS }
  const relics = await caller.get(`/containers/relic?session_id=${NEIGHBOURS}&limit=1`, options)
  const worker = await caller.get(`/containers/worker/${NEIGHBOURS}`, options)
  const [latest] = (relics?.body['items'] ?? []) as Neighbour[]
  return [latest, worker?.status === 200 ? (worker.body as unknown as Neighbour) : undefined]
}

/** Each neighbour runs, also by the word of the engine, or is told as ended with a cause that names the engine. */
async function neighbourProblems({ caller, engine }: Trial, livedOn: boolean): Promise<string[]> {
  const until = Date.now() + CARE_MS
  for (;;) {
    const problems: string[] = []
    for (const neighbour of await neighbours(caller)) {
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
