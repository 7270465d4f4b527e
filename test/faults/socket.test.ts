/**
 * The service on the machine's engine, through a socket that is cut at random moments and whose answers
 * come late, truncated, garbled or by half. Then the world is looked at, as in sigkill.test.ts.
 *
 * FAULTS_CUTS sets how often it is cut (25), FAULTS_SEED replays.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { removeAll } from '../fixtures/service.ts'
import { Random, seed } from '../support/random.ts'
import { report } from '../support/report.ts'
import type { RequestHead } from '../support/request-parser.ts'
import { type SocketFault, SocketProxy } from '../support/socket-proxy.ts'
import { Caller } from './caller.ts'
import { KillableService } from './killable-service.ts'
import { Load } from './load.ts'
import { World } from './world.ts'

const CUTS = Number(process.env['FAULTS_CUTS'] ?? 25)
const SEED = seed()
/** One answer in so many is broken. */
const ONE_IN = 25
/** Beyond the head of most answers, and into the body. */
const INTO_BODY_BYTES = 600
const PING_MS = 3_000
const BACK_MS = 5_000
const POLL_MS = 20

/** Answers whose bytes are a program's own: what is changed in them, nobody can see. */
const OPAQUE = /\/(logs|attach|archive|exec\/[0-9a-f]+\/start)(\?|$)/

const CODES = ['killed', 'engine_unavailable', 'engine_error', 'lost']

let dataDir: string
let proxy: SocketProxy
let service: KillableService
let engine: DockerEngine
let caller: Caller
let load: Load
let world: World
let random: Random

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'co-faults-'))
  const host = process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock'
  proxy = await SocketProxy.open(host)
  engine = await DockerEngine.open({ host })
  service = await KillableService.create({
    DOCKER_HOST: proxy.host,
    CO_DATA_DIR: dataDir,
    CO_MAX_CONCURRENT_RUNS: '4',
    CO_SESSION_SUBNETS: '10.195.0.0/16',
    CO_LOG_LEVEL: 'warn',
  })
  await service.start()
  random = new Random(SEED)
  caller = new Caller(service.url)
  load = new Load(caller, random)
  world = new World({ caller, engine, dataDir, session: load.session })
})
afterEach(async ({ task }) => {
  if (task.result?.state === 'fail') {
    const { broken, requests } = told()
    console.log(`${service?.log.slice(-20_000)}\n${requests} requests, of which broke:\n${broken}`)
  }
  await service?.kill()
  if (world !== undefined) await removeAll(engine, world.instance)
  await proxy?.close()
  await engine?.close()
  await rm(dataDir, { recursive: true, force: true })
})

it(`loses, doubles and leaks nothing over ${CUTS} cuts of the engine's socket (seed ${SEED})`, async () => {
  const problems: string[] = []
  const recoveries: number[] = []
  // Its own numbers: how many requests there are is not the seed's to say.
  const faults = new Random(SEED + 1)
  const broken: SocketFault[] = []
  const breakSome = (request: RequestHead): SocketFault | undefined => {
    const fault = faults.between(1, ONE_IN) === 1 ? faultOf(request, faults) : undefined
    if (fault !== undefined) broken.push(fault)
    return fault
  }
  load.begin()
  for (let cut = 0; cut < CUTS; cut++) {
    proxy.rule = breakSome
    await sleep(random.between(100, 1_500))
    const away = random.between(0, 2) === 0 ? 0 : random.between(100, 1_500)
    if (away > 0) await proxy.refuse()
    proxy.cut()
    await sleep(away)
    proxy.rule = undefined
    await proxy.accept()
    recoveries.push(await untilReady())
  }
  await load.end()

  const runs = await world.settled(load.accepted)
  problems.push(...(await world.problemsOf(load.accepted, runs, { codes: CODES })))
  const unclaimed = (await world.unclaimed()).map((container) => `claimed by no record: ${container}`)
  const errors = (await world.cleanUp(load.sessions)).map((error) => `cleanup: ${JSON.stringify(error)}`)
  const left = (await world.left()).map((resource) => `left: ${resource}`)
  problems.push(...unclaimed, ...errors, ...left, ...caller.late, ...caller.broken, ...crashes())
  expect(problems).toEqual([])
  const completed = runs.filter(({ status }) => status === 'completed').length
  await report('Socket of the engine cut', {
    cuts: CUTS,
    'broken answers': broken.length,
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

function faultOf({ path }: RequestHead, faults: Random): SocketFault | undefined {
  const bytes = faults.between(0, INTO_BODY_BYTES)
  switch (faults.between(0, 4)) {
    case 0:
      return { kind: 'cut' }
    case 1:
      return { kind: 'delay', milliseconds: faults.between(20, 2_500) }
    case 2:
      return { kind: 'truncate', bytes }
    case 3:
      return OPAQUE.test(path) ? undefined : { kind: 'garble', from: bytes, bytes: faults.between(1, 40) }
    default:
      return { kind: 'stall', bytes }
  }
}

/** Milliseconds until new work is taken. */
async function untilReady(): Promise<number> {
  const began = performance.now()
  for (;;) {
    const answer = await caller.get('/readyz', { deadlineMs: PING_MS })
    const waited = performance.now() - began
    if (answer?.status === 200) {
      if (waited > BACK_MS) caller.late.push(`ready ${Math.round(waited)} ms after the socket`)
      return waited
    }
    if (waited > 10 * BACK_MS) throw new Error('the service does not come back with its engine')
    await sleep(POLL_MS)
  }
}

/** What was done to the service's requests, to find the cause of a failure by. */
function told(): { requests: number; broken: string } {
  const lines = (proxy?.requests ?? [])
    .filter(({ fault }) => fault !== undefined)
    .map(({ at, method, path, fault }) => `${new Date(at).toISOString()} ${method} ${path} ${JSON.stringify(fault)}`)
  return { requests: proxy?.requests.length ?? 0, broken: lines.join('\n') }
}

/** The service's own words for what must not happen. */
function crashes(): string[] {
  return service.log.split('\n').filter((line) => /"level":60|"event":"\w+\.broke"|Uncaught|unhandled/i.test(line))
}
