import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { removeAll } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

const bash = promisify(execFile)
const ROOT = new URL('../..', import.meta.url).pathname

let dataDir: string
let started: ChildProcess
let output = ''

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'co-start-'))
  started = spawn('npm', ['start'], {
    cwd: ROOT,
    env: { ...process.env, CO_PORT: '0', CO_DATA_DIR: dataDir, CO_SESSION_SUBNETS: '10.198.0.0/16' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  started.stdout?.on('data', (part: Buffer) => {
    output += part.toString()
  })
  await vi.waitFor(() => expect(output).toMatch(/is ready at[\s\S]*cleanup\/session.*\n/), { timeout: 50_000 })
})
afterAll(async () => {
  if (started.exitCode === null) started.kill('SIGKILL')
  await rm(dataDir, { recursive: true, force: true })
})

describe('npm start', () => {
  it('prints two calls that work as they are', async () => {
    const calls = output.match(/ {2}curl [^\n]*(\\\n[^\n]*)?/g) ?? []
    expect(calls).toHaveLength(2)
    const [tool, cleanup] = await Promise.all(calls.map((call) => bash('bash', ['-c', call])))
    expect(JSON.parse(tool?.stdout ?? '')).toMatchObject({
      status: 'completed',
      exit_code: 0,
      result: { hello: 'world' },
    })
    expect(JSON.parse(cleanup?.stdout ?? '')).toMatchObject({ errors: [] })
  })

  it('passes the quick start', { timeout: 60_000 }, async () => {
    const address = /is ready at (\S+)/.exec(output)?.[1]
    const { stdout } = await bash('bash', ['examples/quickstart.sh'], {
      cwd: ROOT,
      env: { ...process.env, BASE_URL: address, SESSION: newSession('quick') },
    })
    expect(stdout).toContain('quickstart: all steps passed')
  })

  it('ends on SIGTERM with status 0, and says so', async () => {
    const instance = /"instance":"([^"]+)"/.exec(output)?.[1] ?? ''
    started.kill('SIGTERM')
    const [code] = await once(started, 'exit')
    expect(code).toBe(0)
    expect(output).toContain('"event":"service.stopped"')
    const { DockerEngine } = await import('../../src/engine/docker/docker-engine.ts')
    const engine = await DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' })
    const left = await engine.containers.list({ 'container-orchestrator.instance': instance })
    await removeAll(engine, instance)
    await engine.close()
    expect(left).toEqual([])
  })

  it('stops with one line that names a setting it cannot use', async () => {
    for (const [name, value] of [
      ['CO_PORT', 'eighty'],
      ['CO_HOST', '0.0.0.0'],
      ['DOCKER_HOST', 'unix:///nonexistent/docker.sock'],
      ['DOCKER_HOST', 'ssh://host'],
    ] as const) {
      const failed = await bash(process.execPath, ['--disable-warning=ExperimentalWarning', 'src/main.ts'], {
        cwd: ROOT,
        env: { ...process.env, CO_DATA_DIR: dataDir, [name]: value },
      }).catch((error: { code: number; stderr: string }) => error)
      expect(failed).toMatchObject({ code: 1, stderr: expect.stringContaining(name) })
      expect(failed.stderr.trim().split('\n')).toHaveLength(1)
    }
  })
})
