/**
 * The service on the machine's engine, through a socket that is cut at random moments and whose answers
 * come late, truncated, garbled or by half. Then the world is looked at, as in sigkill.test.ts.
 *
 * FAULTS_CUTS sets how often it is cut (25), FAULTS_SEED replays.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it, onTestFinished } from 'vitest'
import { Random, seed } from '../support/random.ts'
import { report } from '../support/report.ts'
import type { RequestHead } from '../support/request-parser.ts'
import { type SocketFault, SocketProxy } from '../support/socket-proxy.ts'
import type { KillableService } from './killable-service.ts'
import type { Pace } from './load.ts'
import { beginTrial, flawless, type Trial, untilReady } from './trial.ts'

const CUTS = Number(process.env['FAULTS_CUTS'] ?? 25)
const SEED = seed()
const PACE: Pace = { runs: [200, 800], disturbances: [20, 300] }
/** One answer in so many is broken. */
const ONE_IN = 25
/** Beyond the head of most answers, and into the body. */
const INTO_BODY_BYTES = 600

/** Answers whose bytes are a program's own: what is changed in them, nobody can see. */
const OPAQUE = /\/(logs|attach|archive|exec\/[0-9a-f]+\/start)(\?|$)/

const CODES = ['killed', 'engine_unavailable', 'engine_error', 'lost']

/** On the machine's engine; the service alone reaches it by the socket that is cut. */
async function begin(): Promise<Trial & { proxy: SocketProxy }> {
  const proxy = await SocketProxy.open(process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock')
  onTestFinished(async ({ task }) => {
    if (task.result?.state === 'fail') console.log(told(proxy))
    await proxy.close()
  })
  const environment = { DOCKER_HOST: proxy.host, CO_SESSION_SUBNETS: '10.195.0.0/16' }
  return { ...(await beginTrial({ seed: SEED, pace: PACE, environment })), proxy }
}

it(`loses, doubles and leaks nothing over ${CUTS} cuts of the engine's socket (seed ${SEED})`, async () => {
  const trial = await begin()
  const { caller, load, proxy, random, service, world } = trial
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
    recoveries.push(await untilReady(caller))
  }

  const { runs, problems } = await world.verdict(load, { codes: CODES })
  expect([...problems, ...crashes(service)]).toEqual([])
  await report('Socket of the engine cut', {
    cuts: CUTS,
    'broken answers': broken.length,
    seed: SEED,
    ...flawless(trial, runs, recoveries),
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

/** What was done to the service's requests, to find the cause of a failure by. */
function told({ requests }: SocketProxy): string {
  const broken = requests
    .filter(({ fault }) => fault !== undefined)
    .map(({ at, method, path, fault }) => `${new Date(at).toISOString()} ${method} ${path} ${JSON.stringify(fault)}`)
  return [`${requests.length} requests, of which broke:`, ...broken].join('\n')
}

/** The service's own words for what must not happen. */
function crashes({ log }: KillableService): string[] {
  return log.split('\n').filter((line) => /"level":60|"event":"\w+\.broke"|Uncaught|unhandled/i.test(line))
}
