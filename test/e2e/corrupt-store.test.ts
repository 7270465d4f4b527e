import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { encodeLabels, ownedBy } from '../../src/labels.ts'
import { Client, sh } from '../fixtures/client.ts'
import { leastContainer } from '../fixtures/container-spec.ts'
import { HTTPD, TOOLBOX } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'
import { spoilWhileUsed } from '../fixtures/spoiled-store.ts'
import { WorkerClient } from '../fixtures/workers.ts'

let dataDir: string
let service: TestService
let client: WorkerClient
/** Of another installation, which shares the engine. */
let foreign: string

const session_id = newSession('rebuild')
const volumesOnly = newSession('rebuild-volume')
const workerId = newSession('w')
const leftWorkerId = newSession('left')
/** What a run that counts until it is told to end reads and writes. */
const flags = [{ source: 'flags', target: '/flags', read_only: false }]
const made: { running?: string; kept?: string; relic?: string; stopped?: string } = {}

const run = async (id: string | undefined) => (await client.get(`/containers/tool/${id}`)).body
const relic = async (id: string | undefined) => (await client.get(`/containers/relic/${id}`)).body

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'co-corrupt-'))
  service = await startService({ dataDir })
  client = new WorkerClient(service.url)
  const image = await service.engine.images.inspect(TOOLBOX)
  foreign = await service.engine.containers.create(
    leastContainer({
      name: `foreign-${randomUUID()}`,
      imageId: image?.id ?? '',
      labels: encodeLabels({ instance: randomUUID(), kind: 'tool', id: 'exec_x', session: session_id, nonce: 'n' }),
    }),
  )
  const kept = await client.run({
    session_id,
    command: sh('echo kept; echo \'{"answer":42}\' > /output/result.json'),
    cleanup: false,
    labels: { purpose: 'test' },
  })
  made.kept = kept.execution_id
  for (const relic_name of ['web', 'halted']) {
    const answer = await client.post('/containers/relic/start', { relic_name, session_id, image: HTTPD })
    if (answer.status !== 201) throw new Error(answer.text)
    made[relic_name === 'web' ? 'relic' : 'stopped'] = answer.body.relic_id
  }
  await client.post(`/containers/relic/${made.stopped}/stop`, { timeout_seconds: 0 })
  await client.startWorker(workerId, {
    session_id,
    network: 'session',
    memory_limit: '200m',
    environment: { SECRET: 'x' },
    command: 'echo hello; exec sleep 600',
  })
  await client.exec(workerId, 'echo precious > /workspace/file')
  // One whose container somebody else removed: its workspace is what is left of it.
  const left = await client.startWorker(leftWorkerId)
  await client.exec(leftWorkerId, 'echo left > /workspace/file')
  await client.run({ session_id: volumesOnly, command: ['true'], volumes: [{ source: 'data', target: '/data' }] })
  const running = await client.run({
    session_id,
    command: sh('i=0; until [ -f /flags/end ]; do echo "n $i"; i=$((i+1)); sleep 0.1; done'),
    volumes: flags,
    wait: false,
  })
  made.running = running.execution_id
  await vi.waitFor(async () => expect((await run(made.running)).stdout).toContain('n 3\n'), { timeout: 20_000 })
  await service.stop(0)
  const engine = await DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' })
  await engine.containers.remove(left.container_id)
  await engine.close()
  const { size } = await stat(join(dataDir, 'store.sqlite'))
  await writeFile(join(dataDir, 'store.sqlite'), Buffer.alloc(size, 0x5a))
  service = await startService({ dataDir })
  client = new WorkerClient(service.url)
})
afterAll(async () => {
  await service?.engine.containers.remove(foreign).catch(() => {})
  await service?.destroy()
  await rm(dataDir, { recursive: true, force: true })
})

describe('after a start with a store that is garbage', () => {
  it('has set it aside, whole, and says loudly what it did', async () => {
    expect(service.store.setAside).toMatch(/store\.corrupt-.*\.sqlite$/)
    expect(await readdir(dataDir)).toContain(basename(service.store.setAside ?? ''))
    const logged = service.logged()
    expect(logged.find(({ event }) => event === 'store.lost')).toMatchObject({ level: 50 })
    expect(logged.find(({ event }) => event === 'store.rebuilt')).toMatchObject({
      level: 40,
      sessions: 2,
      tools: 2,
      relics: 2,
      workers: 1,
      volumes_kept: 1,
    })
    const [rebuilt] = (
      await client.events('/events?after=1', { enough: ({ event }) => event === 'store.rebuilt' })
    ).slice(-1)
    expect(rebuilt?.data).toMatchObject({ tools: 2, relics: 2, workers: 1 })
  })

  it('knows the sessions again, also one of which only a volume is left', async () => {
    const { items } = (await client.get('/sessions')).body
    expect(items.map((session: { session_id: string }) => session.session_id).sort()).toEqual(
      [session_id, volumesOnly].sort(),
    )
  })

  it('the run that was in flight completes, with its whole output once', async () => {
    const stdoutBefore: string = (await run(made.running)).stdout
    await vi.waitFor(async () => expect((await run(made.running)).stdout.length).toBeGreaterThan(stdoutBefore.length))
    await client.run({ session_id, command: ['touch', '/flags/end'], volumes: flags })
    await expect.poll(async () => (await run(made.running)).status, { timeout: 30_000 }).toBe('completed')
    const ended = await run(made.running)
    const lines = ended.stdout.trimEnd().split('\n').length
    const expected = Array.from({ length: lines }, (_, index) => `n ${index}\n`).join('')
    expect(ended).toMatchObject({ exit_code: 0, stdout: expected, tool_name: 'tool', session_id })
    expect((await client.get(`/containers/tool/${made.running}/logs`)).text).toBe(expected)
  })

  it('the run that had ended and kept its container is told again, with output, result and artifact', async () => {
    await expect.poll(async () => (await run(made.kept)).status, { timeout: 20_000 }).toBe('completed')
    const kept = await run(made.kept)
    expect(kept).toMatchObject({ exit_code: 0, stdout: 'kept\n', result: { answer: 42 }, labels: { purpose: 'test' } })
    expect((await client.get(`/containers/tool/${made.kept}/artifacts/result.json`)).text).toBe('{"answer":42}\n')
    expect(await service.engine.containers.inspect(kept.container_id)).toMatchObject({ status: 'exited' })
  })

  it('a relic runs on as healthy, and is started again when it dies', async () => {
    const web = await relic(made.relic)
    expect(web).toMatchObject({ status: 'healthy', relic_name: 'web', internal_url: null, restarts: 0 })
    const asked = await client.run({
      session_id,
      network_mode: 'session',
      command: ['wget', '-qO-', 'http://web:8000/health'],
    })
    expect(asked.status).toBe('completed')
    expect((await client.get(`/containers/relic/${made.relic}/logs`)).status).toBe(200)
    await service.engine.containers.kill(web.container_id)
    await expect
      .poll(() => relic(made.relic), { timeout: 20_000 })
      .toMatchObject({ status: 'healthy', restarts: 1, container_id: web.container_id })
  })

  it('a relic that was stopped stays stopped, and can be started again', async () => {
    expect(await relic(made.stopped)).toMatchObject({ status: 'stopped', relic_name: 'halted' })
    expect((await client.post(`/containers/relic/${made.stopped}/restart`)).body).toMatchObject({ status: 'healthy' })
    expect((await client.delete(`/containers/relic/${made.stopped}`)).status).toBe(204)
  })

  it('a worker takes commands, with its files, logs and limits', async () => {
    expect(await client.worker(workerId)).toMatchObject({
      status: 'running',
      session_id,
      user: '1000:1000',
      memory_limit_bytes: 200 * 1024 ** 2,
      network: { mode: 'session' },
      workspace: { kind: 'none' },
    })
    expect(await client.output(workerId, 'cat /workspace/file; echo more >> /workspace/file')).toBe('precious')
    expect((await client.get(`/containers/worker/${workerId}/files/file`)).text).toBe('precious\nmore\n')
    expect((await client.get(`/containers/worker/${workerId}/logs`)).text).toBe('hello\n')
  })

  it('what a worker was started with is gone: a refresh or restart is refused, a new start keeps its files', async () => {
    for (const change of ['refresh', 'restart']) {
      const { status, body } = await client.post(`/containers/worker/${workerId}/${change}`, {})
      expect([status, body.code]).toEqual([409, 'conflict'])
      expect(body.hint).toContain('its volumes are kept')
    }
    expect((await client.worker(workerId)).status).toBe('running')
    expect((await client.post(`/containers/worker/${workerId}/stop`, { timeout_seconds: 0 })).body.status).toBe(
      'stopped',
    )
    const ensured = await client.post(`/containers/worker/${workerId}/ensure`, { session_id, image: TOOLBOX })
    expect([ensured.status, ensured.body.status]).toEqual([201, 'running'])
    expect(await client.output(workerId, 'cat /workspace/file')).toBe('precious\nmore')
    expect((await client.post(`/containers/worker/${workerId}/refresh`, {})).status).toBe(200)
  })

  it('the workspace of a worker without a container is kept for its next start', async () => {
    expect(await client.worker(leftWorkerId)).toMatchObject({ status: 'failed', failure: { code: 'lost' } })
    await client.startWorker(leftWorkerId)
    expect(await client.output(leftWorkerId, 'cat /workspace/file')).toBe('left')
    expect((await client.delete(`/containers/worker/${leftWorkerId}`)).status).toBe(204)
  })

  it('what is not of this instance is left alone', async () => {
    expect(await service.engine.containers.inspect(foreign)).toMatchObject({ status: 'created' })
  })

  it('a cleanup leaves nothing, and the store that was set aside is still there', async () => {
    for (const session of [session_id, volumesOnly]) {
      const { status, body } = await client.post('/containers/cleanup/session', { session_id: session, force: true })
      expect([status, body.errors]).toEqual([200, []])
    }
    await client.post('/containers/cleanup/all-networks', {})
    const ours = ownedBy(service.instance)
    expect(await service.engine.containers.list(ours)).toEqual([])
    expect(await service.engine.volumes.list(ownedBy(service.instance, 'volume'))).toEqual([])
    expect(await service.engine.networks.list(ours)).toEqual([])
    expect(await readdir(dataDir)).toContain(basename(service.store.setAside ?? ''))
  })

  it('the next start finds a store that is whole', async () => {
    const { instance } = service
    await service.stop(0)
    service = await startService({ dataDir })
    expect(service.store).toMatchObject({ instance, setAside: undefined, needsRebuild: false })
  })
})

describe('a worker in a git worktree', () => {
  it('is ended for reaching out to git of the host, also where its record had to be made again', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'co-guard-'))
    const root = await mkdtemp(join(tmpdir(), 'co-root-'))
    const [repository, worktree] = [join(root, 'main'), join(root, 'tree')]
    const git = (...args: string[]) =>
      execFileSync('git', ['-c', 'user.name=Host', '-c', 'user.email=host@localhost', ...args], { stdio: 'ignore' })
    git('init', repository)
    git('-C', repository, 'commit', '--allow-empty', '-m', 'first')
    git('-C', repository, 'worktree', 'add', worktree)
    const options = { dataDir: folder, environment: { CO_ALLOWED_HOST_ROOTS: root } }
    let guarded = await startService(options)
    try {
      const workspace = { git_worktree: { path: worktree, repository } }
      const worker_id = newSession('guarded')
      await new WorkerClient(guarded.url).startWorker(worker_id, { workspace })
      await guarded.stop(0)
      await writeFile(join(folder, 'store.sqlite'), Buffer.alloc(8192, 0x5a))
      guarded = await startService(options)
      const after = new WorkerClient(guarded.url)
      expect(await after.worker(worker_id)).toMatchObject({
        status: 'running',
        workspace: { kind: 'git_worktree', source: worktree },
      })
      await after.exec(worker_id, 'echo /workspace/evil > $GIT_MAIN_DIR/commondir; sleep 5')
      await expect
        .poll(() => after.worker(worker_id), { timeout: 10_000 })
        .toMatchObject({ status: 'failed', failure: { code: 'killed' } })
      expect(await readdir(join(repository, '.git'))).not.toContain('commondir')
    } finally {
      await guarded.destroy()
      await rm(root, { recursive: true, force: true })
    }
  })
})

describe('a service whose store becomes corrupt while it runs', () => {
  it('says so and ends, and its next start sets the store aside', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'co-spoiled-'))
    const first = await startProcess(folder)
    const caller = new Client(first.url)
    expect((await caller.send('PUT', '/sessions/spoiled', {})).status).toBe(200)
    const ended = once(first.process, 'exit')
    spoilWhileUsed(join(folder, 'store.sqlite'))
    const answer = await caller.get('/sessions')
    expect([answer.status, answer.body.code]).toEqual([503, 'store_unavailable'])
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(await ended).toEqual([1, null])
    expect(first.log()).toMatch(/"level":60.*"event":"service.broke".*The store is corrupt/)
    const second = await startProcess(folder)
    expect(second.log()).toMatch(/"event":"store.lost".*store\.corrupt-/)
    expect((await new Client(second.url).get('/sessions')).body.items).toEqual([])
    second.process.kill('SIGTERM')
    expect(await once(second.process, 'exit')).toEqual([0, null])
    await rm(folder, { recursive: true, force: true })
  })
})

/** The service as a process of its own, once it is ready. */
async function startProcess(folder: string): Promise<{ process: ChildProcess; url: string; log: () => string }> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', 'src/main.ts'], {
    cwd: new URL('../..', import.meta.url).pathname,
    env: { ...process.env, CO_PORT: '0', CO_DATA_DIR: folder },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let log = ''
  child.stdout.on('data', (part: Buffer) => {
    log += part.toString()
  })
  const url = await vi.waitFor(
    () => {
      const address = /"event":"service.started","address":"([^"]+)"/.exec(log)?.[1]
      if (address === undefined) throw new Error(`not started:\n${log}`)
      return address
    },
    { timeout: 30_000, interval: 50 },
  )
  return { process: child, url, log: () => log }
}
