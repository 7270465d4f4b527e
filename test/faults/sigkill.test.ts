/**
 * The service is killed at random moments under a mixed load, and started again, round after round.
 * Then the world is looked at: each call that was accepted has one end, its output whole and once, and
 * ran once; nothing is on the engine that no record claims.
 *
 * FAULTS_KILLS sets how often (40; a thousand and more with `--full`), FAULTS_SEED replays.
 */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { ownedBy } from '../../src/labels.ts'
import { HTTPD, TOOLBOX } from '../fixtures/images.ts'
import { removeAll } from '../fixtures/service.ts'
import { KillableService } from './killable-service.ts'
import { Random, seed } from './random.ts'

const KILLS = Number(process.env['FAULTS_KILLS'] ?? 40)
const SEED = seed()
const LINES = 12
const SETTLE_MS = 120_000

interface Accepted {
  key: string
  execution_id: string
}

let dataDir: string
let service: KillableService
let engine: DockerEngine
const session_id = `faults-${randomUUID().slice(0, 8)}`

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
  const instance = await instanceOf()
  if (instance !== undefined) await removeAll(engine, instance)
  await engine?.close()
  await rm(dataDir, { recursive: true, force: true })
})

it(`loses, doubles and leaks nothing over ${KILLS} kills (seed ${SEED})`, async () => {
  const random = new Random(SEED)
  const recoveries: number[] = []
  const accepted: Accepted[] = []
  // What a call that broke off had asked for is asked for again, with its key.
  const pending = new Map<string, object>()
  recoveries.push(await service.start())
  for (let kill = 0; kill < KILLS; kill++) {
    const over = new AbortController()
    const load = Promise.all([
      submit(random, pending, accepted, over.signal),
      submit(random, pending, accepted, over.signal),
      disturb(random, kill, over.signal),
    ])
    await sleep(random.between(20, 900))
    await service.kill()
    over.abort()
    await load
    recoveries.push(await service.start())
  }
  for (const [key, body] of pending) await accept(key, body, accepted)

  const runs = await settled(accepted)
  const ledger = await linesOfLedger()
  const problems: string[] = []
  for (const run of runs) {
    const wanted = Array.from({ length: LINES }, (_, line) => `line ${line}\n`).join('')
    const times = ledger.filter((id) => id === run.execution_id).length
    if (run.status !== 'completed') problems.push(`${run.execution_id}: ${run.status} ${JSON.stringify(run.failure)}`)
    else if (run.stdout !== wanted) problems.push(`${run.execution_id}: output ${JSON.stringify(run.stdout)}`)
    if (times !== 1) problems.push(`${run.execution_id}: ran ${times} times`)
  }
  expect(problems).toEqual([])
  expect(new Set(accepted.map(({ key }) => key)).size).toBe(
    new Set(accepted.map(({ execution_id }) => execution_id)).size,
  )

  await cleanUp()
  expect(await leftOnEngine()).toEqual([])
  const sorted = recoveries.toSorted((a, b) => a - b)
  const p99 = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.99))] ?? 0
  console.log(
    `faults: ${KILLS} kills, seed ${SEED}: ${runs.length} runs, 0 lost, 0 twice, 0 leaks; recovery p99 ${Math.round(p99)} ms`,
  )
})

/** Sends runs until it is told to stop; a call without an answer stays pending. */
async function submit(
  random: Random,
  pending: Map<string, object>,
  accepted: Accepted[],
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const [key, body] = pending.entries().next().value ?? [randomUUID(), runRequest(random)]
    pending.set(key, body)
    const answered = await accept(key, body, accepted).catch(() => false)
    if (answered) pending.delete(key)
    await sleep(random.between(20, 200), undefined, { signal }).catch(() => {})
  }
}

function runRequest(random: Random): object {
  const pause = random.between(0, 8) / 100
  const script = `echo $EXECUTION_ID >> /ledger/runs; i=0; while [ $i -lt ${LINES} ]; do echo line $i; i=$((i+1)); sleep ${pause}; done`
  return {
    tool_name: 'faults',
    session_id,
    image: TOOLBOX,
    command: ['sh', '-c', script],
    volumes: [{ source: 'ledger', target: '/ledger', read_only: false }],
    wait: false,
  }
}

async function accept(key: string, body: object, accepted: Accepted[]): Promise<boolean> {
  const answer = await post('/containers/tool/execute', body, { 'idempotency-key': key })
  if (answer.status !== 202 && answer.status !== 200) return false
  const { execution_id } = (await answer.json()) as { execution_id: string }
  accepted.push({ key, execution_id })
  return true
}

/** Relics and workers that come and go beside the runs. */
async function disturb(random: Random, round: number, signal: AbortSignal): Promise<void> {
  const quiet = async (work: Promise<unknown>) => work.catch(() => {})
  const session = `${session_id}-${round % 3}`
  while (!signal.aborted) {
    const choice = random.between(0, 4)
    if (choice === 0)
      await quiet(post('/containers/relic/start', { relic_name: 'web', session_id: session, image: HTTPD }))
    else if (choice === 1)
      await quiet(post(`/containers/worker/${session}/ensure`, { image: TOOLBOX, session_id: session }))
    else if (choice === 2) await quiet(post(`/containers/worker/${session}/exec`, { command: 'sleep 5', wait: false }))
    else if (choice === 3) await quiet(post(`/containers/worker/${session}/refresh`, { timeout_seconds: 0 }))
    else await quiet(post('/containers/cleanup/session', { session_id: session, force: true }))
    await sleep(random.between(10, 100), undefined, { signal }).catch(() => {})
  }
}

interface Run {
  execution_id: string
  status: string
  stdout: string
  failure: object | null
}

/** All runs that were accepted, once each, when they have ended. */
async function settled(accepted: readonly Accepted[]): Promise<Run[]> {
  const runs: Run[] = []
  const until = Date.now() + SETTLE_MS
  for (const id of new Set(accepted.map(({ execution_id }) => execution_id))) {
    for (;;) {
      const run = (await (await fetch(`${service.url}/containers/tool/${id}`)).json()) as Run
      if (!['queued', 'preparing', 'running'].includes(run.status) || Date.now() > until) {
        runs.push(run)
        break
      }
      await sleep(50)
    }
  }
  return runs
}

/** Ids of the runs in the order in which their processes began. */
async function linesOfLedger(): Promise<string[]> {
  const answer = await post('/containers/tool/execute', {
    tool_name: 'ledger',
    session_id,
    image: TOOLBOX,
    command: ['sh', '-c', 'cp /ledger/runs /output/runs'],
    volumes: [{ source: 'ledger', target: '/ledger' }],
  })
  const { execution_id } = (await answer.json()) as Run
  const file = await fetch(`${service.url}/containers/tool/${execution_id}/artifacts/runs`)
  return (await file.text()).split('\n').filter((line) => line !== '')
}

async function cleanUp(): Promise<void> {
  for (const session of [session_id, 0, 1, 2].map((part) => (part === session_id ? part : `${session_id}-${part}`))) {
    const answer = await post('/containers/cleanup/session', { session_id: session, force: true })
    expect(((await answer.json()) as { errors: unknown[] }).errors).toEqual([])
  }
}

/** What the instance still has on the engine, but for its toolbox and the bridge of its workers. */
async function leftOnEngine(): Promise<string[]> {
  const owned = ownedBy((await instanceOf()) ?? '')
  const [containers, networks, volumes] = await Promise.all([
    engine.containers.list(owned),
    engine.networks.list(owned),
    engine.volumes.list(owned),
  ])
  return [
    ...containers.map(({ name }) => `container ${name}`),
    ...networks.map(({ name }) => `network ${name}`).filter((name) => !name.startsWith('network internal_')),
    ...volumes.map(({ name }) => `volume ${name}`).filter((name) => !name.startsWith('volume toolbox_')),
  ]
}

async function instanceOf(): Promise<string | undefined> {
  const { DatabaseSync } = await import('node:sqlite')
  const database = new DatabaseSync(join(dataDir, 'store.sqlite'), { readOnly: true })
  const row = database.prepare('select id from instance').get() as { id: string } | undefined
  database.close()
  return row?.id
}

function post(path: string, body: object, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(service.url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(60_000),
  })
}
