import { execFile } from 'node:child_process'
import { chmod, chown, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { Client } from '../fixtures/client.ts'
import { HTTPD, WORKER } from '../fixtures/images.ts'
import { removeAll } from '../fixtures/service.ts'
import {
  buildServiceImage,
  removeServiceImage,
  runServiceImage,
  type ServiceContainer,
} from '../fixtures/service-image.ts'
import { newSession } from '../fixtures/sessions.ts'

const bash = promisify(execFile)
const ROOT = new URL('../..', import.meta.url).pathname

let tag: string
let container: ServiceContainer
let client: Client
/** Mounted into the service as /work. */
let hostRoot: string

beforeAll(async () => {
  tag = await buildServiceImage()
  hostRoot = await mkdtemp(join(tmpdir(), 'co-host-'))
  await chmod(hostRoot, 0o755)
  const environment = { CO_SESSION_SUBNETS: '10.199.0.0/16', CO_ALLOWED_HOST_ROOTS: '/work' }
  container = await runServiceImage(tag, environment, [`${hostRoot}:/work`])
  client = new Client(container.url)
  await vi.waitFor(async () => expect((await client.get('/livez')).status).toBe(200), {
    timeout: 20_000,
    interval: 200,
  })
}, 300_000)
afterAll(async () => {
  const instance = /"instance":"([^"]+)"/.exec(await container.logs())?.[1] ?? ''
  await container.remove()
  const engine = await DockerEngine.open({ host: 'unix:///var/run/docker.sock' })
  await removeAll(engine, instance)
  await engine.close()
  await removeServiceImage(tag)
  await rm(hostRoot, { recursive: true, force: true })
})

describe('the service in its container, with the socket mounted', () => {
  it('passes the quick start', { timeout: 120_000 }, async () => {
    const { stdout } = await bash('bash', ['examples/quickstart.sh'], {
      cwd: ROOT,
      env: { ...process.env, BASE_URL: container.url, SESSION: newSession('image') },
    })
    expect(stdout).toContain('quickstart: all steps passed')
  })

  it('gets relics healthy through the door, although it shares no network with them', async () => {
    const session_id = newSession()
    const { status, body, text } = await client.post('/containers/relic/start', {
      relic_name: 'web',
      session_id,
      image: HTTPD,
    })
    expect(status, text).toBe(201)
    const health = await client.get(`/containers/relic/${body.relic_id}/health`)
    expect(health.body).toMatchObject({ healthy: true })
    const never = await client.post('/containers/relic/start', {
      relic_name: 'closed',
      session_id,
      image: HTTPD,
      port: 9,
      health_check_timeout_seconds: 1,
    })
    expect(never.status).toBe(504)
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it('mounts host folders and git worktrees into workers, by the paths that it sees itself', async () => {
    const folder = join(hostRoot, 'plain')
    const repository = join(hostRoot, 'repo')
    const worktree = join(hostRoot, 'tree')
    await Promise.all([folder, repository].map((path) => mkdir(path)))
    await chown(folder, 1000, 1000)
    const git = (...args: string[]) =>
      bash('git', ['-C', repository, '-c', 'user.name=Host', '-c', 'user.email=host@localhost', ...args])
    await git('init', '-q')
    await git('commit', '-q', '--allow-empty', '-m', 'first')
    // The repository notes the paths of the host, which the service does not have.
    await git('worktree', 'add', '-q', '-b', 'feature', worktree)
    const start = (worker_id: string, workspace: object) =>
      client.post('/containers/worker/start', { worker_id, image: WORKER, workspace })
    const exec = async (worker_id: string, command: string) => {
      const { body, text } = await client.post(`/containers/worker/${worker_id}/exec`, { command })
      expect(body.exit_code, text).toBe(0)
      return body.stdout
    }
    const plain = await start('plain', { host_path: '/work/plain' })
    expect(plain.status, plain.text).toBe(201)
    await exec('plain', 'echo from inside > file')
    expect(await readFile(join(folder, 'file'), 'utf8')).toBe('from inside\n')
    const tree = await start('tree', { git_worktree: { path: '/work/tree', repository: '/work/repo' } })
    expect(tree.status, tree.text).toBe(201)
    expect(await exec('tree', 'git commit -q --allow-empty -m second && git log --format=%s')).toBe('second\nfirst\n')
    expect((await git('log', '--format=%s', 'feature')).stdout).toBe('second\nfirst\n')
    expect((await start('outside', { host_path: '/etc' })).status).toBe(403)
    for (const id of ['plain', 'tree']) await client.delete(`/containers/worker/${id}`)
  })

  it('runs as a user that is not root, and its HEALTHCHECK finds it healthy', async () => {
    const image = await (await DockerEngine.open({ host: 'unix:///var/run/docker.sock' })).images.inspect(tag)
    expect(image?.user).toBe('1000:1000')
    await expect.poll(() => container.health(), { timeout: 40_000, interval: 500 }).toBe('healthy')
  })
})
