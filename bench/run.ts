/**
 * Ours and a rival's side by side, in pairs and in one run: `npm run bench [-- --pairs 20]`. The work
 * is a cold tool run without network, as a whole HTTP call; the rival is the bare sequence of engine
 * calls (create, start, wait, logs, remove), which is the floor for whatever drives an engine. Quote
 * the ratio: single figures are the machine's mood.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import { Agent, request } from 'undici'
import { askEngine, engineAddress } from '../scripts/engine-client.ts'
import { parseEndpoint } from '../src/engine/docker/endpoint.ts'

const IMAGE = 'container-orchestrator/toolbox:1'
const COMMAND = ['echo', 'hello']
const WARM_UP = 2

const { values } = parseArgs({ options: { pairs: { type: 'string', default: '12' } } })
const pairs = Number(values.pairs)
if (!Number.isInteger(pairs) || pairs < 1) throw new Error('--pairs takes a whole number from 1')

const endpoint = parseEndpoint(engineAddress())
if (!('socketPath' in endpoint)) throw new Error('the bench speaks to an engine on this machine, by its socket')
const engine = new Agent({ connect: { socketPath: endpoint.socketPath } })

const dataDir = await mkdtemp(join(tmpdir(), 'co-bench-'))
const { url, service } = await start()
try {
  const ours: number[] = []
  const bare: number[] = []
  for (let pair = -WARM_UP; pair < pairs; pair++) {
    const [a, b] = [await timed(oneRun), await timed(bareSequence)]
    if (pair < 0) continue
    ours.push(a)
    bare.push(b)
  }
  const version = await askEngine<{ Version: string }>('GET', '/version')
  const ratios = ours.map((value, index) => value / (bare[index] ?? Number.NaN))
  process.stdout.write(
    [
      `${pairs} pairs · Docker ${version.Version} · Linux ${release()} · ${availableParallelism()} cores · Node ${process.version}`,
      '',
      '| work | ours, median (p95) ms | rival | rival, median (p95) ms | ratio, median |',
      '|---|---|---|---|---|',
      `| tool run, cold, whole HTTP call | ${told(ours)} | bare engine sequence | ${told(bare)} | ${quantile(ratios, 0.5).toFixed(2)} |`,
      '',
    ].join('\n'),
  )
} finally {
  service.kill('SIGTERM')
  await new Promise((resolve) => service.once('exit', resolve))
  await engine.close()
  await rm(dataDir, { recursive: true, force: true })
}

async function start(): Promise<{ url: string; service: ChildProcess }> {
  const started = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', 'src/main.ts'], {
    env: { ...process.env, CO_PORT: '0', CO_DATA_DIR: dataDir, CO_SESSION_SUBNETS: '10.197.0.0/16' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const address = new Promise<string>((resolve, reject) => {
    let log = ''
    started.stdout.on('data', (part: Buffer) => {
      log += part.toString()
      const found = /"event":"service.started","address":"([^"]+)"/.exec(log)
      if (found?.[1] !== undefined) resolve(found[1])
    })
    started.once('exit', (code) => reject(new Error(`the service ended with status ${code}`)))
  })
  return { url: await address, service: started }
}

async function oneRun(): Promise<void> {
  const body = JSON.stringify({ tool_name: 'bench', session_id: 'bench', image: IMAGE, command: COMMAND })
  const headers = { 'content-type': 'application/json' }
  const answer = await request(`${url}/containers/tool/execute`, { method: 'POST', headers, body })
  const run = (await answer.body.json()) as { stdout?: string }
  if (run.stdout !== 'hello\n') throw new Error(`the run answered ${JSON.stringify(run)}`)
}

async function bareSequence(): Promise<void> {
  const created = await call('POST', '/containers/create', {
    Image: IMAGE,
    Cmd: COMMAND,
    HostConfig: { NetworkMode: 'none' },
  })
  const { Id } = JSON.parse(created) as { Id: string }
  await call('POST', `/containers/${Id}/start`)
  await call('POST', `/containers/${Id}/wait`)
  const logs = await call('GET', `/containers/${Id}/logs?stdout=1&stderr=1`)
  if (!logs.includes('hello')) throw new Error('the container wrote nothing')
  await call('DELETE', `/containers/${Id}`)
}

async function call(method: 'GET' | 'POST' | 'DELETE', path: string, body?: object): Promise<string> {
  const answer = await request(`http://engine${path}`, {
    method,
    dispatcher: engine,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
  })
  const answered = await text(answer.body)
  if (answer.statusCode >= 300) throw new Error(`${method} ${path}: ${answer.statusCode} ${answered}`)
  return answered
}

async function timed(work: () => Promise<void>): Promise<number> {
  const began = performance.now()
  await work()
  return performance.now() - began
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

function told(values: readonly number[]): string {
  return `${quantile(values, 0.5).toFixed(0)} (${quantile(values, 0.95).toFixed(0)})`
}
