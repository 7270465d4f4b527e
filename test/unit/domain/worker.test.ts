import { describe, expect, it } from 'vitest'
import type { z } from 'zod'
import { ListWorkers, RefreshWorker, SnapshotWorker, StopWorker } from '../../../src/domain/worker.ts'
import { Command, ContainerUser, EnsureWorker, StartWorker } from '../../../src/domain/worker-spec.ts'

const LEAST = { worker_id: 'w1', image: 'python:3.13' }

/** The dotted paths of what is wrong, with the names of unknown fields. */
function faults(schema: z.ZodType, body: unknown): string[] {
  const parsed = schema.safeParse(body)
  if (parsed.success) return []
  return parsed.error.issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys'
      ? issue.keys.map((key) => [...issue.path, key].join('.'))
      : [issue.path.join('.')],
  )
}

const startFaults = (fields: object) => faults(StartWorker, { ...LEAST, ...fields })
const start = (fields: object = {}) => StartWorker.parse({ ...LEAST, ...fields })

describe('StartWorker', () => {
  it('needs a name and an image, and has these defaults', () => {
    expect(start()).toEqual({
      worker_id: 'w1',
      image: 'python:3.13',
      environment: {},
      ports: {},
      memory_limit: '4g',
      cpu_limit: 2,
      pids_limit: 1000,
      nofile: { soft: 1024, hard: 2048 },
      network: 'internal',
      readonly_root: true,
      volumes: [],
      credentials: [],
      keep_on_failure: false,
      restart_policy: { max_retries: 3 },
      refresh_policy: {
        max_age_hours: 72,
        disk_percent: 80,
        memory_percent: 90,
        health_failures: 3,
        action: 'report',
      },
      exit_codes: {},
      labels: {},
    })
    expect(faults(StartWorker, { image: 'python:3.13' })).toEqual(['worker_id'])
    expect(faults(StartWorker, { worker_id: 'w1' })).toEqual(['image'])
  })

  it('has defaults for what is left out of a part', () => {
    const body = start({
      nofile: { hard: 4096 },
      healthcheck: { command: 'true' },
      ready: { command: ['test', '-e', '/tmp/ready'] },
      restart_policy: {},
      refresh_policy: { disk_percent: 95 },
    })
    expect(body).toMatchObject({
      nofile: { soft: 1024, hard: 4096 },
      healthcheck: { command: 'true', interval_seconds: 60, timeout_seconds: 10, retries: 3 },
      ready: { command: ['test', '-e', '/tmp/ready'], timeout_seconds: 120 },
      restart_policy: { max_retries: 3 },
      refresh_policy: { max_age_hours: 72, disk_percent: 95, memory_percent: 90, health_failures: 3, action: 'report' },
    })
  })

  it('gives no worker what another was given', () => {
    const one = start()
    one.environment['A'] = '1'
    one.nofile.soft = 64
    expect(start()).toMatchObject({ environment: {}, nofile: { soft: 1024 } })
  })

  it.each([
    ['privileged', { privileged: true }],
    ['timeout_seconds', { timeout_seconds: 5 }],
    ['constructor', { constructor: {} }],
    ['nofile.max', { nofile: { max: 1 } }],
    ['healthcheck.shell', { healthcheck: { command: 'true', shell: true } }],
    ['ready.interval_seconds', { ready: { command: 'true', interval_seconds: 1 } }],
    ['restart_policy.retries', { restart_policy: { retries: 1 } }],
    ['refresh_policy.max_age', { refresh_policy: { max_age: 1 } }],
    ['exit_codes.3.retry', { exit_codes: { 3: { meaning: 'x', action: 'fail', retry: 1 } } }],
    ['volumes.0.mode', { volumes: [{ source: 'a', target: '/a', mode: 'ro' }] }],
    ['gpu.all', { gpu: { all: true } }],
  ])('refuses the unknown field %s', (path, fields) => {
    expect(startFaults(fields)).toEqual([path])
  })

  it('wants a session for the network of a session', () => {
    expect(startFaults({ network: 'session' })).toEqual(['session_id'])
    expect(startFaults({ network: 'session', session_id: 's1' })).toEqual([])
    expect(startFaults({ session_id: 's1' })).toEqual([])
  })

  it('publishes no ports without a network', () => {
    expect(startFaults({ network: 'none', ports: { 8000: 0 } })).toEqual(['ports'])
    expect(startFaults({ network: 'none', ports: {} })).toEqual([])
    expect(startFaults({ network: 'none' })).toEqual([])
    expect(startFaults({ network: 'internal', ports: { 8000: 0 } })).toEqual([])
  })

  it('wants the soft limit of open files within the hard one', () => {
    expect(startFaults({ nofile: { soft: 2049, hard: 2048 } })).toEqual(['nofile'])
    expect(startFaults({ nofile: { soft: 2048, hard: 2048 } })).toEqual([])
    // Against the default of the other.
    expect(startFaults({ nofile: { soft: 4096 } })).toEqual(['nofile'])
    expect(startFaults({ nofile: { hard: 512 } })).toEqual(['nofile'])
  })

  it.each(['0', '1', '9', '10', '99', '100', '137', '199', '249', '255'])('takes the exit code %s', (code) => {
    expect(startFaults({ exit_codes: { [code]: { meaning: 'x', action: 'stop' } } })).toEqual([])
  })

  it.each(['-1', '256', '260', '300', '1000', '00', '01', '1.5', '', ' 1', '1e1', 'x', 'SIGTERM'])(
    'refuses the exit code %j',
    (code) => {
      expect(startFaults({ exit_codes: { [code]: { meaning: 'x', action: 'fail' } } })).toEqual([`exit_codes.${code}`])
    },
  )

  it.each([
    ['no action', { meaning: 'x' }, 'exit_codes.3.action'],
    ['no meaning', { action: 'fail' }, 'exit_codes.3.meaning'],
    ['an empty meaning', { meaning: '', action: 'fail' }, 'exit_codes.3.meaning'],
    ['an unknown action', { meaning: 'x', action: 'reboot' }, 'exit_codes.3.action'],
    ['an action alone', 'fail', 'exit_codes.3'],
  ])('refuses an exit code with %s', (_, meaning, path) => {
    expect(startFaults({ exit_codes: { 3: meaning } })).toEqual([path])
  })

  it.each([
    { host_path: '/srv/work' },
    { volume: 'cache' },
    { git_worktree: { path: '/srv/trees/one', repository: '/srv/repository' } },
  ])('takes the workspace %j', (workspace) => {
    expect(start({ workspace }).workspace).toEqual(workspace)
  })

  it.each([
    {},
    null,
    '/srv/work',
    [],
    { host_path: 'relative' },
    { host_path: '' },
    { host_path: '/a\0b' },
    { host_path: `/${'x'.repeat(4096)}` },
    { host_path: '/a', volume: 'b' },
    { host_path: '/a', read_only: true },
    { volume: '/a' },
    { volume: '../a' },
    { volume: '' },
    { git_worktree: '/srv/trees/one' },
    { git_worktree: { path: '/srv/trees/one' } },
    { git_worktree: { repository: '/srv/repository' } },
    { git_worktree: { path: 'one', repository: '/srv/repository' } },
    { git_worktree: { path: '/srv/trees/one', repository: '/srv/repository', branch: 'main' } },
    { none: true },
  ])('refuses the workspace %j', (workspace) => {
    expect(startFaults({ workspace })[0]).toMatch(/^workspace/)
  })

  it.each([
    ['memory_limit', ['7m', '2t', '4', 4096, null]],
    ['cpu_limit', [0, 0.001, 1025, '2', Number.NaN, Number.POSITIVE_INFINITY]],
    ['pids_limit', [0, 15, 65_537, 16.5, '100']],
    ['network', ['host', 'Internal', '', null]],
    ['readonly_root', ['true', 1, null]],
    ['credentials', ['git', [''], ['a b'], Array.from({ length: 17 }, () => 'a')]],
    ['task_id', ['', 'x'.repeat(257), 'line\nbreak', 'ä', 7]],
    ['worker_id', ['', '.hidden', '-x', 'a b', 'a/b', 'x'.repeat(64), 7]],
    ['session_id', ['', 'a/b', null]],
    ['image', ['', 'UPPER/case', '-x', null]],
    ['command', ['', [], 'a\0b', ['a\0b'], [7], 7, null]],
    ['user', ['', ':', 'a:', ':1', 'a:b:c', 'a b', '-1', 'a\n', 1000]],
    ['ports', [{ 0: 0 }, { 65536: 0 }, { 80: 65_536 }, { 80: -1 }, { '080': 0 }, []]],
    ['profile', ['', 'a b', null]],
    ['keep_on_failure', ['yes', 0]],
  ])('refuses for %s: %j', (field, values) => {
    for (const value of values) expect(startFaults({ [field]: value })[0], JSON.stringify(value)).toMatch(`${field}`)
  })

  it.each([
    ['nofile.soft', [0, 63, 1.5, '1024', 1_048_577]],
    ['nofile.hard', [0, 63, 2048.5, 1_048_577]],
    ['healthcheck.interval_seconds', [0, 0.5, 86_401, '60']],
    ['healthcheck.timeout_seconds', [0, 3601, null]],
    ['healthcheck.retries', [0, 1.5, 101]],
    ['healthcheck.command', ['', [], undefined]],
    ['ready.timeout_seconds', [0, 3601, '120']],
    ['ready.command', ['', [], undefined]],
    ['restart_policy.max_retries', [-1, 0.5, 101]],
    ['refresh_policy.max_age_hours', [0, -1, 87_601]],
    ['refresh_policy.disk_percent', [0, 101, '80']],
    ['refresh_policy.memory_percent', [0, 101]],
    ['refresh_policy.health_failures', [0, 1.5, 101]],
    ['refresh_policy.action', ['restart', true]],
  ])('refuses for %s: %j', (path, values) => {
    const [part = '', field = ''] = path.split('.')
    for (const value of values) {
      const whole = { ...(part === 'healthcheck' || part === 'ready' ? { command: 'true' } : {}), [field]: value }
      expect(startFaults({ [part]: whole })[0], String(value)).toBe(path)
    }
  })

  it('restarts nothing where it is told so', () => {
    expect(start({ restart_policy: { max_retries: 0 } }).restart_policy).toEqual({ max_retries: 0 })
  })
})

describe('EnsureWorker', () => {
  it('is the same body, where the name may be left out', () => {
    expect(EnsureWorker.parse({ image: 'python:3.13' })).toEqual({ ...start(), worker_id: undefined })
    expect(EnsureWorker.parse(LEAST)).toEqual(start())
  })

  it('refuses what a start refuses', () => {
    expect(faults(EnsureWorker, { image: 'a', network: 'session' })).toEqual(['session_id'])
    expect(faults(EnsureWorker, { image: 'a', network: 'none', ports: { 80: 0 } })).toEqual(['ports'])
    expect(faults(EnsureWorker, { image: 'a', privileged: true })).toEqual(['privileged'])
  })
})

describe('Command', () => {
  it('keeps a string and a list apart', () => {
    expect(Command.parse('echo "a  b" | cat')).toBe('echo "a  b" | cat')
    expect(Command.parse(['echo', '', 'a b'])).toEqual(['echo', '', 'a b'])
  })

  it('is no longer than an argument of the kernel may be', () => {
    expect(Command.safeParse('x'.repeat(131_071)).success).toBe(true)
    expect(Command.safeParse('x'.repeat(131_072)).success).toBe(false)
    expect(Command.safeParse(['x'.repeat(131_072)]).success).toBe(false)
  })
})

describe('ContainerUser', () => {
  it.each(['root', '1000', '1000:1000', 'worker', 'worker:staff', '_apt', 'a.b-c_d:0', 'www-data'])(
    'takes %s',
    (user) => {
      expect(ContainerUser.parse(user)).toBe(user)
    },
  )

  it.each(['a'.repeat(33), `a:${'b'.repeat(33)}`, 'a/b', 'a:b:c', '../x', '$HOME', '-x', 'ä', '1000:-1'])(
    'refuses %s',
    (user) => {
      expect(ContainerUser.safeParse(user).success).toBe(false)
    },
  )
})

describe('the other requests', () => {
  it('have these defaults', () => {
    expect(StopWorker.parse({})).toEqual({ timeout_seconds: 30 })
    expect(RefreshWorker.parse({})).toEqual({ timeout_seconds: 30, when_busy: 'wait', wait_seconds: 300 })
    expect(SnapshotWorker.parse({})).toEqual({})
    expect(ListWorkers.parse({})).toEqual({})
  })

  it.each([
    ['StopWorker', StopWorker, { timeout_seconds: -1 }, 'timeout_seconds'],
    ['StopWorker', StopWorker, { timeout_seconds: 3601 }, 'timeout_seconds'],
    ['StopWorker', StopWorker, { force: true }, 'force'],
    ['RefreshWorker', RefreshWorker, { when_busy: 'kill' }, 'when_busy'],
    ['RefreshWorker', RefreshWorker, { wait_seconds: -1 }, 'wait_seconds'],
    ['RefreshWorker', RefreshWorker, { image: 'other' }, 'image'],
    ['SnapshotWorker', SnapshotWorker, { name: 'Upper' }, 'name'],
    ['SnapshotWorker', SnapshotWorker, { name: 'a/b' }, 'name'],
    ['SnapshotWorker', SnapshotWorker, { name: 'a:b' }, 'name'],
    ['SnapshotWorker', SnapshotWorker, { name: '' }, 'name'],
    ['SnapshotWorker', SnapshotWorker, { name: 'x'.repeat(64) }, 'name'],
    ['ListWorkers', ListWorkers, { status: 'exited' }, 'status'],
    ['ListWorkers', ListWorkers, { limit: 5 }, 'limit'],
    ['ListWorkers', ListWorkers, { limit: '0' }, 'limit'],
  ] as [string, z.ZodType, object, string][])('%s %#: refuses %j', (_, schema, body, path) => {
    expect(faults(schema, body)).toEqual([path])
  })
})
