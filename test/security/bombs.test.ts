/**
 * Rows 35 and 37 to 40: what a container does to itself, beside a peer in another session that runs a tool
 * every so often. The peer's runs all succeed, their times are told, and nothing is left of the bomb.
 *
 * SECURITY_BOMB_SECONDS sets how long each goes on (4; 20 with `--full`), SECURITY_FLOOD_SECONDS how long
 * output floods (5; 60 with `--full`).
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { askEngine } from '../../scripts/engine-client.ts'
import { sh } from '../fixtures/client.ts'
import { TOOLBOX } from '../fixtures/images.ts'
import { newSession } from '../fixtures/sessions.ts'
import { report } from '../support/report.ts'
import { Wall } from './support/wall.ts'

const SECONDS = Number(process.env['SECURITY_BOMB_SECONDS'] ?? 4)
const FLOOD_SECONDS = Number(process.env['SECURITY_FLOOD_SECONDS'] ?? 5)
const PEER_TIMEOUT_SECONDS = 60
const PAUSE_MS = 250
/** Of the service itself, in this process, while it is flooded. */
const FLOOD_RSS_BYTES = 400 * 1024 * 1024

let wall: Wall
const peer = newSession('peer')

beforeAll(async () => {
  wall = await Wall.raise({ CO_MAX_CONCURRENT_RUNS: '4' })
  // The first run of a service makes what all later ones share.
  expect(await wall.client.run({ session_id: peer, command: ['true'] })).toMatchObject({ status: 'completed' })
})
afterAll(async () => {
  expect(wall.breaches()).toEqual([])
  await wall.fall()
})

/** Runs a tool of the peer's again and again until the work is done; answers how long each took, in ms. */
async function beside(work: Promise<unknown>): Promise<number[]> {
  let isDone = false
  const done = work.finally(() => {
    isDone = true
  })
  done.catch(() => {})
  const times: number[] = []
  do {
    const began = performance.now()
    const run = await wall.client.run({
      session_id: peer,
      command: ['echo', 'alive'],
      resource_limits: { timeout_seconds: PEER_TIMEOUT_SECONDS },
    })
    expect(run, JSON.stringify(run)).toMatchObject({ status: 'completed', stdout: 'alive\n' })
    times.push(performance.now() - began)
    await sleep(PAUSE_MS)
  } while (!isDone)
  await done
  return times
}

function quantile(times: readonly number[], part: number): number {
  const sorted = times.toSorted((a, b) => a - b)
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0)
}

async function told(name: string, times: readonly number[], more: Record<string, number | string> = {}): Promise<void> {
  await report(name, {
    'peer runs': times.length,
    'peer failures': 0,
    'peer p50, ms': quantile(times, 0.5),
    'peer p99, ms': quantile(times, 0.99),
    ...more,
  })
}

async function nothingLeft(session_id: string): Promise<void> {
  await wall.client.post('/containers/cleanup/session', { session_id, force: true })
  expect(await wall.service.services.docker.list({ session: session_id })).toEqual([])
}

/** How each bomb is set off, and what becomes of the run. */
const BOMBS = {
  'fork bomb': {
    row: 37,
    script: 'b() { b | b & }; b; sleep 3600',
    resource_limits: { pids_limit: 64, memory_mb: 128, cpu_limit: 0.5 },
    ends: ['timeout', 'failed'],
  },
  'memory bomb': {
    row: 39,
    script: 'x=a; while :; do x=$x$x$x$x; done',
    resource_limits: { memory_mb: 64, cpu_limit: 0.5 },
    ends: ['failed', 'timeout'],
  },
  'descriptor bomb': {
    row: 37,
    script: 'i=3; while [ $i -lt 100000 ]; do eval "exec $i</dev/null" || break; i=$((i+1)); done; sleep 3600',
    resource_limits: { memory_mb: 64, cpu_limit: 0.5 },
    ends: ['timeout', 'failed'],
  },
  'fill of /tmp': {
    row: 38,
    script: 'dd if=/dev/zero of=/tmp/fill bs=1M; dd if=/dev/zero of=/fill bs=1M; sleep 3600',
    resource_limits: { memory_mb: 64, cpu_limit: 0.5 },
    ends: ['timeout', 'failed'],
  },
  'hog of the CPU': {
    row: 40,
    script: 'for i in 1 2 3 4 5 6 7 8; do (while :; do :; done) & done; wait',
    resource_limits: { cpu_limit: 0.5, memory_mb: 64 },
    ends: ['timeout'],
  },
} as const

describe.each(Object.entries(BOMBS))('%s in a tool', (name, { row, script, resource_limits, ends }) => {
  it(`ends with it, and a peer’s tools go on (row ${row})`, async () => {
    const session_id = newSession('bomb')
    const bomb = wall.client.run({
      session_id,
      command: sh(script),
      resource_limits: { ...resource_limits, timeout_seconds: SECONDS },
    })
    const times = await beside(bomb)
    const run = await bomb
    expect(ends, JSON.stringify(run)).toContain(run.status)
    await nothingLeft(session_id)
    await told(`A ${name} beside a peer (row ${row})`, times, { ended: run.failure.code })
  })
})

describe('bombs in a relic and in a worker', () => {
  it('end with them, and a peer’s tools go on (row 37)', async () => {
    const session_id = newSession('bomb')
    const relic = await wall.client.post('/containers/relic/start', {
      relic_name: 'bomb',
      session_id,
      image: TOOLBOX,
      command: sh('b() { b | b & }; sleep 1; b; sleep 3600'),
      health_check_endpoint: null,
      restart_policy: { max_retries: 0 },
      resource_limits: { pids_limit: 64, memory_mb: 128, cpu_limit: 0.5 },
    })
    expect(relic.status, relic.text).toBe(201)
    const worker = await wall.client.post('/containers/worker/start', {
      worker_id: 'bomb',
      session_id,
      image: TOOLBOX,
      pids_limit: 64,
      cpu_limit: 0.5,
      memory_limit: '128m',
    })
    expect(worker.status, worker.text).toBe(201)
    const exec = wall.client.post('/containers/worker/bomb/exec', {
      command: 'b() { b | b & }; b; sleep 3600',
      timeout_seconds: SECONDS,
    })
    const times = await beside(exec)
    expect((await exec).status).toBeLessThan(500)
    await nothingLeft(session_id)
    await told('Fork bombs in a relic and a worker beside a peer (row 37)', times)
  })
})

describe('a flood of output', () => {
  it('is bounded in answer, memory and disk, and told as cut (row 35)', async () => {
    const session_id = newSession('flood')
    const before = process.memoryUsage().rss
    let most = 0
    const watch = setInterval(() => {
      most = Math.max(most, process.memoryUsage().rss - before)
    }, 100)
    const flood = wall.client.run({
      session_id,
      command: sh('yes "a line that is as long as many others are" & yes >&2'),
      resource_limits: { timeout_seconds: FLOOD_SECONDS, cpu_limit: 0.5 },
    })
    const times = await beside(flood).finally(() => clearInterval(watch))
    const run = await flood
    expect(run.status).toBe('timeout')
    expect([run.stdout_truncated, run.stderr_truncated]).toContain(true)
    expect(Buffer.byteLength(run.stdout)).toBeLessThan(1.2 * 1024 * 1024)
    expect(Buffer.byteLength(run.stderr)).toBeLessThan(1.2 * 1024 * 1024)
    expect(run.stdout_bytes + run.stderr_bytes).toBeGreaterThan(1024 * 1024)
    expect(most).toBeLessThan(FLOOD_RSS_BYTES)
    await nothingLeft(session_id)
    await told(`yes for ${FLOOD_SECONDS} s beside a peer (row 35)`, times, {
      'MiB put out': Math.round((run.stdout_bytes + run.stderr_bytes) / 1024 ** 2),
      'MiB of memory at most': Math.round(most / 1024 ** 2),
    })
  })
})

describe('a hog of the queue', () => {
  it('delays a peer by no more than one run for each place (row 40)', async () => {
    const session_id = newSession('hog')
    const flood = Array.from({ length: 60 }, () =>
      wall.client.run({ session_id, command: ['true'], wait: false, resource_limits: { memory_mb: 16 } }),
    )
    const accepted = await Promise.all(flood)
    expect(new Set(accepted.map(({ execution_id }) => execution_id)).size).toBe(60)
    const began = performance.now()
    const run = await wall.client.run({ session_id: peer, command: ['echo', 'alive'] })
    const waited = performance.now() - began
    expect(run.status).toBe('completed')
    // Its turn came before the flood's end.
    const { body } = await wall.client.get(`/containers/tool?session_id=${session_id}&status=queued`)
    expect(body.items.length).toBeGreaterThan(0)
    await nothingLeft(session_id)
    await told('A queue of sixty beside a peer (row 40)', [waited], { 'still waiting then': body.items.length })
  })
})

describe('limits', () => {
  it('hold memory and swap together, as the engine has them (row 39)', async () => {
    const started = await wall.client.post('/containers/worker/start', {
      worker_id: 'limits',
      image: TOOLBOX,
      memory_limit: '64m',
    })
    expect(started.status, started.text).toBe(201)
    const { HostConfig } = await askEngine<{ HostConfig: Record<string, unknown> }>(
      'GET',
      `/containers/${started.body.container_id}/json`,
    )
    expect(HostConfig).toMatchObject({
      Memory: 64 * 1024 ** 2,
      MemorySwap: 64 * 1024 ** 2,
      Privileged: false,
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges'],
      ReadonlyRootfs: true,
      PidMode: '',
      UsernsMode: '',
      UTSMode: '',
      IpcMode: 'private',
      CgroupParent: '',
      Devices: null,
      RestartPolicy: { Name: 'no' },
      LogConfig: { Type: 'local' },
    })
    await wall.client.delete('/containers/worker/limits')
  })
})
