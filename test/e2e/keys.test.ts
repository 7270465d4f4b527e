/** The service with keys, as an operator runs it: the commands, a process, and its audit log. */
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { KillableService } from '../faults/killable-service.ts'
import { Client } from '../fixtures/client.ts'
import { TOOLBOX } from '../fixtures/images.ts'
import { removeAll } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

const run = promisify(execFile)
const ROOT = new URL('../..', import.meta.url).pathname
/** What callers and operators keep to themselves; whoever sees one of them has found a leak. */
const SECRETS = {
  credential: 'sekret-of-the-operator',
  environment: 'sekret-of-a-worker',
  stdin: 'sekret-on-stdin',
}

let folder: string
let keysFile: string
let service: KillableService
const keys: Record<string, string> = {}
const tokens: string[] = []

const command = async (script: string, ...words: string[]) =>
  run(process.execPath, ['--disable-warning=ExperimentalWarning', `src/cli/${script}.ts`, ...words], {
    cwd: ROOT,
    env: { ...process.env, CO_KEYS_FILE: keysFile, CO_DATA_DIR: join(folder, 'data') },
  })
const makeKey = async (...words: string[]) => (await command('keys', 'create', ...words)).stdout.trim()
const client = (key: string | undefined) =>
  new Client(service.url, key === undefined ? {} : { authorization: `Bearer ${key}` })

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'co-keys-'))
  keysFile = join(folder, 'keys.json')
  await writeFile(
    join(folder, 'config.yaml'),
    'credentials:\n  api:\n    environment:\n      API_TOKEN: { variable: OPERATORS_TOKEN }\n',
  )
  for (const role of ['agent', 'service', 'ops', 'cleanup', 'metrics'])
    keys[role] = await makeKey('--role', role, '--owner', `the-${role}`)
  service = await KillableService.create({
    CO_HOST: '0.0.0.0',
    CO_DATA_DIR: join(folder, 'data'),
    CO_KEYS_FILE: keysFile,
    CO_CONFIG: join(folder, 'config.yaml'),
    CO_LOG_LEVEL: 'trace',
    CO_SESSION_SUBNETS: '10.195.96.0/20',
    OPERATORS_TOKEN: SECRETS.credential,
  })
  await service.start()
})
afterAll(async () => {
  await service.kill()
  const engine = await DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' })
  await removeAll(engine, (await readFile(join(folder, 'data', 'instance'), 'utf8')).trim())
  await engine.close()
  await rm(folder, { recursive: true, force: true })
})

const tool = (session_id: string, more: object = {}) => ({
  tool_name: 'echo',
  session_id,
  image: TOOLBOX,
  command: ['echo', 'hi'],
  ...more,
})

it('listens beyond loopback with keys, and not without', async () => {
  expect((await client(undefined).get('/readyz')).status).toBe(200)
  expect((await client(undefined).get('/sessions')).status).toBe(401)
  for (const [environment, told] of [
    [{}, /CO_KEYS_FILE/],
    [{ CO_KEYS_FILE: join(folder, 'none.json') }, /there is no such file/],
  ] as const) {
    const other = await KillableService.create({
      CO_HOST: '0.0.0.0',
      CO_DATA_DIR: join(folder, 'other'),
      ...environment,
    })
    await expect(other.start()).rejects.toThrow(told)
    await other.kill()
  }
})

it('gives each role what it is for', async () => {
  const session = newSession('roles')
  expect((await client(keys['agent']).post('/containers/tool/execute', tool(session))).status).toBe(200)
  expect((await client(keys['service']).get(`/sessions/${session}`)).status).toBe(404)
  expect((await client(keys['ops']).get(`/sessions/${session}`)).status).toBe(200)
  expect((await client(keys['metrics']).get('/metrics')).status).toBe(200)
  expect((await client(keys['agent']).get('/metrics')).status).toBe(403)
  const cleaned = await client(keys['cleanup']).post('/containers/cleanup/session', { session_id: session })
  expect([cleaned.status, cleaned.body.errors]).toEqual([200, []])
})

it('tells operators alone what shuts networks off from the host', async () => {
  expect((await client(keys['ops']).get('/health')).body.isolation).toBeDefined()
  expect((await client(keys['agent']).get('/health')).body.isolation).toBeUndefined()
})

it('makes tokens for one session, which end with it', async () => {
  const session = newSession('token')
  const made = await client(keys['service']).post(`/sessions/${session}/tokens`, { ttl_seconds: 600, scopes: ['run'] })
  expect(made.status).toBe(201)
  tokens.push(made.body.token)
  const holder = client(made.body.token)
  expect((await holder.post('/containers/tool/execute', tool(session))).status).toBe(200)
  expect((await holder.post('/containers/tool/execute', tool(newSession('elsewhere')))).status).toBe(404)
  expect((await holder.post(`/sessions/${session}/tokens`, {})).status).toBe(403)
  expect((await holder.get('/containers/relic')).status).toBe(403)
  expect((await client(keys['agent']).post(`/sessions/${newSession('own')}/tokens`, {})).status).toBe(403)

  const second = (await client(keys['service']).post(`/sessions/${session}/tokens`, {})).body
  tokens.push(second.token)
  expect((await client(second.token).get(`/sessions/${session}`)).status).toBe(200)
  expect((await client(keys['service']).delete(`/sessions/${session}/tokens/${second.id}`)).status).toBe(204)
  expect((await client(second.token).get(`/sessions/${session}`)).status).toBe(401)

  expect((await client(keys['service']).delete(`/sessions/${session}?force=true`)).status).toBe(200)
  expect((await holder.post('/containers/tool/execute', tool(session))).status).toBe(401)
})

it('lets a key be rotated with an overlap, and revoked, which cuts its streams off', async () => {
  const first = await makeKey('--role', 'agent', '--owner', 'rotating')
  const session = newSession('rotate')
  await settled(first)
  expect((await client(first).send('PUT', `/sessions/${session}`, {})).status).toBe(200)
  const second = (await command('keys', 'rotate', first.split('_')[1] ?? '', '--overlap', '1h')).stdout.trim()
  await settled(second)
  for (const key of [first, second]) expect((await client(key).get(`/sessions/${session}`)).status).toBe(200)
  const events = await fetch(`${service.url}/events`, { headers: { authorization: `Bearer ${first}` } })
  expect(events.status).toBe(200)
  const cutOff = events.text().then(
    () => 'ended',
    () => 'cut off',
  )
  await command('keys', 'revoke', first.split('_')[1] ?? '')
  expect(await cutOff).toBe('cut off')
  expect((await client(first).get(`/sessions/${session}`)).status).toBe(401)
  expect((await client(second).delete(`/sessions/${session}`)).status).toBe(200)
})

describe('what is secret', () => {
  it('is in no answer, log line, event, metric, record of the engine, or file that it need not be in', async () => {
    const agent = client(keys['agent'])
    const session = newSession('secret')
    const answers: string[] = []
    const noted = async (answer: Promise<{ status: number; text: string }>) => {
      const { status, text } = await answer
      answers.push(text)
      return status
    }
    expect(await noted(agent.post('/containers/tool/execute', tool(session, { stdin: SECRETS.stdin })))).toBe(200)
    const worker = {
      worker_id: newSession('worker'),
      session_id: session,
      image: TOOLBOX,
      command: ['sleep', '60'],
      credentials: ['api'],
      environment: { OWN: SECRETS.environment },
    }
    expect(await noted(agent.post('/containers/worker/start', worker))).toBe(201)
    const seen = await agent.post(`/containers/worker/${worker.worker_id}/exec`, { command: 'echo $API_TOKEN $OWN' })
    // The control: the worker itself has them.
    expect(seen.body.stdout).toContain(`${SECRETS.credential} ${SECRETS.environment}`)
    for (const path of [
      `/containers/worker/${worker.worker_id}`,
      '/containers/worker',
      '/containers/tool',
      `/sessions/${session}`,
      `/containers/worker/${worker.worker_id}/logs`,
    ])
      expect(await noted(agent.get(path))).toBe(200)
    expect(await noted(client(keys['ops']).get('/metrics'))).toBe(200)
    const bad = { ...worker, worker_id: 'x', environment: { 'BAD NAME': SECRETS.environment } }
    expect(await noted(agent.post('/containers/worker/start', bad))).toBe(400)
    expect(await noted(client(`${keys['agent']}x`).get('/sessions'))).toBe(401)

    const record = (await agent.get(`/containers/worker/${worker.worker_id}`)).body
    const inspect = (await run('docker', ['inspect', record.container_id])).stdout
    const files = await audited()
    const places = { answers: answers.join('\n'), log: service.log, inspect, audit: files }
    for (const [place, text] of Object.entries(places)) {
      expect(text.length, place).toBeGreaterThan(100)
      for (const secret of [...Object.values(SECRETS), ...Object.values(keys), ...tokens])
        expect(text.includes(secret), `${secret} in ${place}`).toBe(false)
    }
    const kept = await readFile(keysFile, 'utf8')
    // Of `co_<id>_<secret>`, whose secret may have a "_" itself.
    for (const key of Object.values(keys)) expect(kept).not.toContain(key.slice(key.indexOf('_', 3) + 1))
    expect((await stat(keysFile)).mode & 0o077).toBe(0)
    expect(await noted(agent.delete(`/sessions/${session}?force=true`))).toBe(200)
  })
})

it('keeps an audit log that can be verified, and shows where it was changed', async () => {
  const { stdout } = await command('audit', 'verify', '--data', join(folder, 'data'))
  expect(stdout).toMatch(/^\d+ entries in 1 files\nhead [0-9a-f]{64}/)
  const log = await audited()
  expect(log).toContain('"route":"makeSessionToken"')
  expect(log).toMatch(/"decision":"deny","rule":"role"/)
  const auditFolder = join(folder, 'data', 'audit')
  const name = (await readdir(auditFolder)).find((file) => file.endsWith('.jsonl')) ?? ''
  await service.kill()
  const text = await readFile(join(auditFolder, name), 'utf8')
  await writeFile(join(auditFolder, name), text.replace('"rule":"role"', '"rule":"rolf"'))
  await expect(command('audit', 'verify', '--data', join(folder, 'data'))).rejects.toMatchObject({ code: 1 })
})

async function audited(): Promise<string> {
  const auditFolder = join(folder, 'data', 'audit')
  const files = await Promise.all((await readdir(auditFolder)).map((file) => readFile(join(auditFolder, file), 'utf8')))
  return files.join('')
}

/** A change of the file counts within a second. */
async function settled(key: string): Promise<void> {
  for (let tries = 0; tries < 20; tries++) {
    if ((await client(key).get('/sessions')).status === 200) return
    await sleep(50)
  }
  throw new Error('the key is not known after a second')
}
