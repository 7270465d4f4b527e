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
    // A group of its own, which a terminal's Ctrl-C would reach as a whole.
    detached: true,
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  started.stdout?.on('data', (part: Buffer) => {
    output += part.toString()
  })
  await vi.waitFor(() => expect(output).toMatch(/is ready at[\s\S]*cleanup\/session.*\n/), { timeout: 50_000 })
})
afterAll(async () => {
  signalGroup('SIGKILL')
  await rm(dataDir, { recursive: true, force: true })
})

describe('npm start', () => {
  it('prints two calls that work as they are', async () => {
    const calls = output.match(/ {2}curl (?:[^\n]*\\\n)*[^\n]*/g) ?? []
    expect(calls).toHaveLength(2)
    const tool = await bash('bash', ['-c', calls[0] ?? ''])
    const cleanup = await bash('bash', ['-c', calls[1] ?? ''])
    expect(JSON.parse(tool.stdout)).toMatchObject({
      status: 'completed',
      exit_code: 0,
      result: { hello: 'world' },
    })
    expect(JSON.parse(cleanup.stdout)).toMatchObject({ errors: [] })
  })

  it('passes the quick start', { timeout: 60_000 }, async () => {
    const address = /is ready at (\S+)/.exec(output)?.[1]
    const { stdout } = await bash('bash', ['examples/quickstart.sh'], {
      cwd: ROOT,
      env: { ...process.env, BASE_URL: address, SESSION: newSession('quick') },
    })
    expect(stdout).toContain('quickstart: all steps passed')
  })

  it('stops in order on Ctrl-C, and leaves no container of a tool', async () => {
    const instance = /"instance":"([^"]+)"/.exec(output)?.[1] ?? ''
    signalGroup('SIGINT')
    await vi.waitFor(() => expect(output).toContain('"event":"service.stopped"'), { timeout: 20_000 })
    const { DockerEngine } = await import('../../src/engine/docker/docker-engine.ts')
    const engine = await DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' })
    const left = await engine.containers.list({ 'container-orchestrator.instance': instance })
    await removeAll(engine, instance)
    await engine.close()
    expect(left).toEqual([])
  })

  it('ends with status 0 on SIGTERM', async () => {
    const service = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', 'src/main.ts'], {
      cwd: ROOT,
      env: { ...process.env, CO_PORT: '0', CO_DATA_DIR: dataDir },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let log = ''
    service.stdout.on('data', (part: Buffer) => {
      log += part.toString()
    })
    await vi.waitFor(() => expect(log).toContain('"event":"service.started"'), { timeout: 20_000 })
    service.kill('SIGTERM')
    expect(await once(service, 'exit')).toEqual([0, null])
    expect(log).toContain('"event":"service.stopped"')
  })

  it('ends on SIGTERM also where whoever read its log has gone', async () => {
    const service = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', 'src/main.ts'], {
      cwd: ROOT,
      env: { ...process.env, CO_PORT: '0', CO_DATA_DIR: dataDir },
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    await new Promise((resolve) => service.stdout.once('data', resolve))
    service.stdout.destroy()
    await new Promise((resolve) => setTimeout(resolve, 2_000))
    service.kill('SIGTERM')
    expect(await once(service, 'exit')).toEqual([0, null])
  })

  it('stops with one line that names a setting it cannot use', async () => {
    const stops = async (name: string, value: string) => {
      const failed = await bash(process.execPath, ['--disable-warning=ExperimentalWarning', 'src/main.ts'], {
        cwd: ROOT,
        env: { ...process.env, CO_DATA_DIR: dataDir, [name]: value },
      }).catch((error: { code: number; stderr: string }) => error)
      expect(failed).toMatchObject({ code: 1, stderr: expect.stringContaining(name) })
      expect(failed.stderr.trim().split('\n')).toHaveLength(1)
    }
    await Promise.all([
      stops('CO_PORT', 'eighty'),
      stops('CO_HOST', '0.0.0.0'),
      stops('DOCKER_HOST', 'unix:///nonexistent/docker.sock'),
      stops('DOCKER_HOST', 'ssh://host'),
    ])
  })
})

/** Signals npm and the service; harmless where they are gone. */
function signalGroup(signal: NodeJS.Signals): void {
  try {
    process.kill(-(started.pid ?? 0), signal)
  } catch {
    // They have ended.
  }
}
