import { describe, expect, it } from 'vitest'
import type { MountSpec } from '../../../src/engine/spec.ts'
import { STRICT, WORKSPACE } from '../../../src/policy/profiles.ts'
import {
  commandForm,
  memoryBytes,
  planWorker,
  WORKSPACE_FOLDER,
  type WorkerSetting,
} from '../../../src/policy/worker-policy.ts'
import { workerRequest } from '../support/requests.ts'

const MIB = 1024 ** 2
const OWNER = { uid: 1000, gid: 100 }

const SETTING: WorkerSetting = {
  argv: ['/.toolbox/worker-start', 'open', 'python', '-m', 'agent'],
  environment: { WORKER_ID: 'w1', A: '1' },
  user: OWNER,
  home: '/home/dev',
  privateFolder: '/run/worker',
  mounts: [{ type: 'volume', source: 'v', target: '/workspace', readOnly: false }],
  healthcheck: undefined,
}

const plan = (request: object = {}, setting: Partial<WorkerSetting> = {}, profile = WORKSPACE) =>
  planWorker(workerRequest(request), profile, { ...SETTING, ...setting })
const scratchOf = (setting: Partial<WorkerSetting>) => plan({}, setting).sandbox.tmpfs.map(({ target }) => target)
const mountAt = (target: string): MountSpec => ({ type: 'volume', source: 'x', target, readOnly: true })

describe('planWorker', () => {
  it('asks for exactly this where a request says the least', () => {
    expect(plan()).toEqual({
      entrypoint: ['/.toolbox/worker-start'],
      command: ['open', 'python', '-m', 'agent'],
      environment: { WORKER_ID: 'w1', A: '1' },
      user: '1000:100',
      workingDir: '/workspace',
      openStdin: true,
      resources: {
        memoryBytes: 4096 * MIB,
        cpus: 2,
        pids: 1000,
        openFiles: { soft: 1024, hard: 2048 },
      },
      sandbox: {
        readonlyRoot: true,
        capabilities: [],
        tmpfs: [
          { target: '/run/worker', bytes: 16 * MIB, executable: true, owner: OWNER },
          { target: '/tmp', bytes: WORKSPACE.tmpBytes, executable: true, owner: OWNER },
          { target: '/home/dev', bytes: WORKSPACE.tmpBytes, executable: true, owner: OWNER },
        ],
      },
      mounts: SETTING.mounts,
      ports: [],
    })
  })

  it("has the profile's runtime, and none where the profile has none", () => {
    expect(plan({}, {}, { ...WORKSPACE, runtime: 'runsc' }).sandbox).toMatchObject({ runtime: 'runsc' })
    expect(plan().sandbox).not.toHaveProperty('runtime')
  })

  it('has the limits that were asked for', () => {
    const request = { memory_limit: '1.5g', cpu_limit: 0.5, pids_limit: 64, nofile: { soft: 100, hard: 200 } }
    expect(plan(request).resources).toEqual({
      memoryBytes: 1536 * MIB,
      cpus: 0.5,
      pids: 64,
      openFiles: { soft: 100, hard: 200 },
    })
  })

  it('writes to the root file system only where that was asked for', () => {
    expect(plan({ readonly_root: false }).sandbox.readonlyRoot).toBe(false)
    expect(plan({ readonly_root: true }).sandbox.readonlyRoot).toBe(true)
  })

  it('has the capabilities and the size of /tmp of its profile', () => {
    const profile = { ...STRICT, capabilities: ['CHOWN', 'SETUID'] as const, tmpBytes: 5 * MIB }
    const { capabilities, tmpfs } = plan({}, {}, profile).sandbox
    expect(capabilities).toEqual(['CHOWN', 'SETUID'])
    expect(tmpfs.map(({ bytes }) => bytes)).toEqual([16 * MIB, 5 * MIB, 5 * MIB])
  })

  it('gives scratch space to its own user, by number', () => {
    const { tmpfs } = plan({}, { user: { uid: 0, gid: 0 } }).sandbox
    expect(tmpfs).toHaveLength(3)
    for (const { owner } of tmpfs) expect(owner).toEqual({ uid: 0, gid: 0 })
  })

  it('makes no scratch space where the caller mounted something', () => {
    expect(scratchOf({ mounts: [mountAt('/tmp')] })).toEqual(['/run/worker', '/home/dev'])
    expect(scratchOf({ mounts: [mountAt('/home/dev')] })).toEqual(['/run/worker', '/tmp'])
    expect(scratchOf({ mounts: [mountAt('/home')] })).toEqual(['/run/worker', '/tmp'])
    expect(scratchOf({ mounts: [mountAt('/home'), mountAt('/tmp')] })).toEqual(['/run/worker'])
  })

  it('makes it around a mount that lies inside, and beside one of a longer name', () => {
    const mounts = [mountAt('/tmp/cache'), mountAt('/home/dev/.aws'), mountAt('/tmpfs'), mountAt('/home/develop')]
    expect(scratchOf({ mounts })).toEqual(['/run/worker', '/tmp', '/home/dev'])
  })

  it.each(['/tmp', '/tmp/home', '/run/worker/home', '/'])('makes none twice for the home %s', (home) => {
    expect(scratchOf({ home })).toEqual(['/run/worker', '/tmp'])
  })

  it('makes none for a home in the workspace', () => {
    expect(scratchOf({ home: '/workspace/.home' })).toEqual(['/run/worker', '/tmp'])
  })

  it('always has the private folder, whatever is mounted', () => {
    expect(scratchOf({ mounts: [mountAt('/run')] })[0]).toBe('/run/worker')
  })

  it('runs a command of one word, and one of many, word by word', () => {
    expect(plan({}, { argv: ['/bin/agent'] })).toMatchObject({ entrypoint: ['/bin/agent'], command: [] })
    expect(plan({}, { argv: ['/bin/agent', 'a b', '', '$x'] })).toMatchObject({
      entrypoint: ['/bin/agent'],
      command: ['a b', '', '$x'],
    })
  })

  it('has a health check only where there is one', () => {
    expect(plan()).not.toHaveProperty('healthcheck')
    const healthcheck = { command: ['check'], intervalSeconds: 60, timeoutSeconds: 10, retries: 3 }
    expect(plan({}, { healthcheck }).healthcheck).toEqual(healthcheck)
  })

  it('has a GPU only where one was asked for', () => {
    expect(plan()).not.toHaveProperty('gpu')
    expect(plan({ gpu: {} }).gpu).toEqual({ count: 'all', deviceIds: [], capabilities: ['gpu'], driver: 'nvidia' })
    expect(plan({ gpu: { count: 2, device_ids: ['0'], capabilities: ['compute'], driver: 'x' } }).gpu).toEqual({
      count: 2,
      deviceIds: ['0'],
      capabilities: ['compute'],
      driver: 'x',
    })
  })

  it('has the engine publish no port', () => {
    expect(plan({ ports: { 8000: 0 } }).ports).toEqual([])
  })

  it('works in the workspace', () => {
    expect(plan().workingDir).toBe(WORKSPACE_FOLDER)
  })
})

describe('memoryBytes', () => {
  it('are those of the limit', () => {
    expect(memoryBytes({ memory_limit: '512m' })).toBe(512 * MIB)
  })

  it('are never guessed', () => {
    expect(() => memoryBytes({ memory_limit: 'plenty' })).toThrow('plenty')
  })
})

describe('commandForm', () => {
  it('keeps a text for a shell and a list of words apart', () => {
    expect(commandForm('echo "a  b"')).toEqual(['shell', 'echo "a  b"'])
    expect(commandForm(['echo', 'a  b', ''])).toEqual(['argv', 'echo', 'a  b', ''])
  })
})
