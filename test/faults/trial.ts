/** One trial of a fault suite: a load on an installation of its own, and the world to look at afterwards. */
import { setTimeout as sleep } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { Random } from '../support/random.ts'
import type { Counts } from '../support/report.ts'
import { Caller } from './caller.ts'
import { type Installation, install, uninstall } from './installation.ts'
import { Load, type Pace } from './load.ts'
import { Witness } from './witness.ts'
import { World } from './world.ts'

const PING_MS = 3_000
/** Until the service takes new work again, once what failed is back. */
const BACK_MS = 5_000
const POLL_MS = 20

export interface TrialOptions {
  seed: number
  pace: Pace
  /** Where the engine is; the service may be told of another way to it. */
  host?: string
  environment: Record<string, string>
  /** Some runs are such as parked containers serve; the engine outlives the trial. */
  parks?: boolean
}

export interface Trial extends Installation {
  engine: DockerEngine
  random: Random
  caller: Caller
  load: Load
  world: World
}

/** Begins one for the test that runs. Nothing is left of it after that test; one that fails is told the service's last words. */
export async function beginTrial({ seed, pace, environment, parks = false, ...options }: TrialOptions): Promise<Trial> {
  const host = options.host ?? process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock'
  const engine = await DockerEngine.open({ host })
  onTestFinished(() => engine.close())
  const installation = await install({ CO_MAX_CONCURRENT_RUNS: '4', ...environment })
  const { service } = installation
  onTestFinished(({ task }) => {
    if (task.result?.state === 'fail') console.log(service.log.slice(-20_000))
    return uninstall(installation, engine)
  })
  const random = new Random(seed)
  const caller = new Caller(service.url)
  const load = new Load(caller, random, pace, { parks })
  onTestFinished(() => load.pause())
  const witness = parks ? await Witness.of(engine, installation.instance) : undefined
  onTestFinished(() => witness?.end())
  const world = new World({ caller, engine, installation, session: load.session, witness })
  return { ...installation, engine, random, caller, load, world }
}

/** Milliseconds until new work is taken, once what failed is back; a long time is noted as late. */
export async function untilReady(caller: Caller): Promise<number> {
  const began = performance.now()
  for (;;) {
    const answer = await caller.get('/readyz', { deadlineMs: PING_MS })
    const waited = performance.now() - began
    if (answer?.status === 200) {
      if (waited > BACK_MS) caller.late.push(`ready ${Math.round(waited)} ms after what failed was back`)
      return waited
    }
    if (waited > 10 * BACK_MS) throw new Error('the service does not come back with its engine')
    await sleep(POLL_MS)
  }
}

/** What is told of a trial on a failing engine in which nothing went wrong. */
export function flawless(
  { caller }: Trial,
  runs: readonly { status: string }[],
  recoveries: readonly number[],
): Counts {
  return {
    runs: runs.length,
    completed: runs.filter(({ status }) => status === 'completed').length,
    lost: 0,
    doubled: 0,
    leaked: 0,
    'ready again within ms': Math.round(Math.max(...recoveries)),
    'slowest answer ms': Math.round(caller.slowestMs),
  }
}
