/**
 * Rows 1 to 4, 6 to 8, 12, 22, 23, 28 and 30 to 32: what callers put into fields that the API has. Each is
 * refused with its code before the engine is asked for anything; what is text to the API stays text.
 */
import { mkdir, mkdtemp, rm, stat, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { TOOLBOX } from '../fixtures/images.ts'
import { newSession } from '../fixtures/sessions.ts'
import { report } from '../support/report.ts'
import { fieldsOf } from './support/json-fields.ts'
import { changes, Wall } from './support/wall.ts'

type Body = Record<string, unknown>
type Refusal = readonly [status: number, code: string]

const INVALID: Refusal = [400, 'validation_failed']
const DENIED: Refusal = [403, 'policy_denied']
const WORKER = 'values'
const session_id = newSession('values')
const NEVER_MADE = join(tmpdir(), `co-never-made-${process.pid}`)

let wall: Wall
let root: string
let cases = 0

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'co-root-'))
  await mkdir(join(root, 'inside'))
  await symlink('/', join(root, 'out'))
  await symlink('/var/run/docker.sock', join(root, 'socket'))
  wall = await Wall.raise({ CO_ALLOWED_HOST_ROOTS: root }, { hostRoots: [root] })
  const started = await wall.client.post('/containers/worker/start', { worker_id: WORKER, image: TOOLBOX })
  expect(started.status, started.text).toBe(201)
})
afterAll(async () => {
  expect(wall.breaches()).toEqual([])
  await wall.fall()
  await rm(root, { recursive: true, force: true })
})

const CALLS: Readonly<Record<string, { path: string; body: Body }>> = {
  tool: { path: '/containers/tool/execute', body: { tool_name: 't', session_id, image: TOOLBOX } },
  relic: { path: '/containers/relic/start', body: { relic_name: 'r', session_id, image: TOOLBOX } },
  worker: { path: '/containers/worker/start', body: { worker_id: 'never', session_id, image: TOOLBOX } },
  ensure: { path: `/containers/worker/${WORKER}-other/ensure`, body: { session_id, image: TOOLBOX } },
  exec: { path: `/containers/worker/${WORKER}/exec`, body: { command: 'true' } },
}
const MAKERS = ['tool', 'relic', 'worker', 'ensure']

/** Each change to each of the calls is refused, and asks nothing of the engine. */
async function refused(calls: readonly string[], changesOf: readonly Body[], refusal: Refusal): Promise<void> {
  for (const name of calls) {
    const { path, body } = CALLS[name] as { path: string; body: Body }
    for (const change of changesOf) {
      const told = await wall.during(async () => {
        const answer = await wall.client.post(path, { ...body, ...change })
        expect([answer.status, answer.body?.code], `${name} ${JSON.stringify(change)}`).toEqual(refusal)
      })
      expect(changes(told), JSON.stringify(change)).toEqual([])
      cases += 1
    }
  }
}

describe('row 1: what of the host is mounted', () => {
  const HOST_PATHS = [
    '/',
    '//',
    '/.',
    '/./',
    '/etc',
    '/etc/shadow',
    '/proc',
    '/proc/1/root',
    '/proc/self/root/etc',
    '/sys',
    '/dev/sda',
    '/root/.ssh',
    '/var/run/docker.sock',
    '/run/docker.sock',
    '/run/containerd/containerd.sock',
    '/var/lib/docker',
    '/../../',
    '/tmp',
    '/no/such/folder',
    '/root/no-such-file',
  ]
  const mounted = (source: string) => ({ volumes: [{ source, target: '/data' }] })

  it('is no path outside of the allowed roots', async () => {
    await refused(MAKERS, HOST_PATHS.map(mounted), DENIED)
  })

  it('is no path that climbs out of one, or begins like one', async () => {
    const escapes = [`${root}/..`, `${root}/../..`, `${root}/inside/../../..`, `${root}x`, `${root}-other/x`]
    await refused(MAKERS, escapes.map(mounted), DENIED)
  })

  it('is no relative path, address or option', async () => {
    const odd = ['.', '..', './x', '../etc', '~', '~/.ssh', 'a/b', '$HOME', 'file:///etc', 'data:rw', '-v', ' ', 'a b']
    await refused(MAKERS, odd.map(mounted), DENIED)
  })

  it('is not the target: nothing comes over the root, the kernel’s file systems or our own programs', async () => {
    const targets = ['/', '//', '/proc', '/proc/sys', '/sys/fs/cgroup', '/dev', '/dev/shm', '/.toolbox', '/run/worker']
    await refused(
      MAKERS,
      targets.map((target) => ({ volumes: [{ source: 'data', target }] })),
      DENIED,
    )
    const malformed = ['data', '', '/a/../proc', '/./proc', '/a\0b']
    await refused(
      MAKERS,
      malformed.map((target) => ({ volumes: [{ source: 'data', target }] })),
      INVALID,
    )
  })

  it('is no workspace or worktree outside of the roots', async () => {
    const workspaces = HOST_PATHS.flatMap((path) => [
      { workspace: { host_path: path } },
      { workspace: { git_worktree: { path, repository: path } } },
    ])
    await refused(['worker', 'ensure'], workspaces, DENIED)
  })
})

describe('row 2: a host path that is a symlink out of the root', () => {
  it('is refused, whatever it is called', async () => {
    await symlink('/no/such/folder', join(root, 'nowhere'))
    // Whether the host has what they lead to makes no difference.
    const links = ['out', 'out/etc', 'out/no-such-folder', 'nowhere', 'nowhere/x', 'socket', 'inside/../out']
    await refused(
      MAKERS,
      links.map((link) => ({ volumes: [{ source: `${root}/${link}`, target: '/data' }] })),
      DENIED,
    )
    await refused(
      ['worker', 'ensure'],
      links.map((link) => ({ workspace: { host_path: `${root}/${link}` } })),
      DENIED,
    )
  })
})

describe('row 3: a host path that is not there', () => {
  it('is refused, and not made', async () => {
    const inside = `${root}/absent`
    await refused(MAKERS, [{ volumes: [{ source: inside, target: '/data' }] }], INVALID)
    await refused(MAKERS, [{ volumes: [{ source: NEVER_MADE, target: '/data' }] }], DENIED)
    for (const path of [inside, NEVER_MADE]) await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' })
  })
})

describe('row 6: namespaces of others', () => {
  const MODES = [
    'host',
    'HOST',
    'Host',
    'host ',
    'container:aaaa',
    `container:${'a'.repeat(64)}`,
    'ns:/proc/1/ns/net',
    'default',
    'private',
    'service:web',
    'slirp4netns',
    '',
    null,
    ['host'],
    { mode: 'host' },
    true,
  ]
  it('are no network of a tool or worker', async () => {
    await refused(
      ['tool'],
      MODES.map((network_mode) => ({ network_mode })),
      INVALID,
    )
    await refused(
      ['worker', 'ensure'],
      MODES.map((network) => ({ network })),
      INVALID,
    )
  })

  it('are not opened by the bridge, where the profile has none', async () => {
    await refused(['tool'], [{ network_mode: 'bridge' }], DENIED)
    await refused(['worker', 'ensure'], [{ network: 'bridge' }], DENIED)
    await refused(['tool'], [{ profile: 'service', network_mode: 'none' }], DENIED)
    const profiles = ['privileged', 'host', 'unconfined', 'STRICT', 'constructor', 'toString']
    await refused(
      MAKERS,
      profiles.map((profile) => ({ profile })),
      DENIED,
    )
  })
})

describe('row 7: root by request', () => {
  it('is denied to workers and to commands', async () => {
    const users = ['root', '0', '0:0', '00', '0:1000', 'root:root']
    await refused(
      ['exec'],
      users.map((user) => ({ user })),
      DENIED,
    )
    const malformed = ['-1', '', 'a b', 'root\n', '0:0:0', '../root', '$(id)', 0, null]
    await refused(
      ['worker', 'ensure', 'exec'],
      malformed.map((user) => ({ user })),
      INVALID,
    )
  })
})

describe('row 8: devices by way of a GPU', () => {
  it('are not to be had where the engine has none, whatever they are called', async () => {
    const gpus = [{ count: 1 }, { device_ids: ['/dev/sda'] }, { driver: 'cdi' }, { capabilities: ['utility', 'all'] }]
    for (const name of MAKERS) {
      const { path, body } = CALLS[name] as { path: string; body: Body }
      for (const gpu of gpus) {
        const told = await wall.during(async () => {
          const answer = await wall.client.post(path, { ...body, gpu })
          expect([403, 422], answer.text).toContain(answer.status)
        })
        expect(changes(told)).toEqual([])
        cases += 1
      }
    }
  })
})

describe('row 12: ports on other addresses', () => {
  it('cannot be said', async () => {
    const ports = [
      { '80': '0.0.0.0:8080' },
      { '80': { HostIp: '', HostPort: '8080' } },
      { '80': [{ HostIp: '0.0.0.0' }] },
      { '80/tcp': 8080 },
      { '0.0.0.0:80': 80 },
      { '0': 80 },
      { '80': -1 },
      { '80': 65_536 },
      { '080': 80 },
      { '80-90': 80 },
      ['80:80'],
      'all',
    ]
    await refused(
      ['relic', 'worker', 'ensure'],
      ports.map((published) => ({ ports: published })),
      INVALID,
    )
  })
})

describe('row 22: keys that change what objects are', () => {
  const KEYS = ['"__proto__"', '"__pro\\u0074o__"']
  const PLACES = ['environment', 'labels', 'parameters', 'input_files', 'resource_limits', 'gpu', 'build']

  it('are refused at each depth', async () => {
    const body = JSON.stringify((CALLS['tool'] as { body: Body }).body)
    const objects = KEYS.flatMap((key) => [
      `{${key}:{"privileged":true}}`,
      `{"a":{${key}:{"x":1}}}`,
      `{"a":[{${key}:null}]}`,
      `{${key}:"x"}`,
    ])
    const texts = [
      ...objects.map((text) => `${body.slice(0, -1)},${text.slice(1)}`),
      ...PLACES.flatMap((place) => objects.map((text) => `${body.slice(0, -1)},"${place}":${text}}`)),
      ...PLACES.map((place) => `${body.slice(0, -1)},"${place}":{"constructor":{"prototype":{"privileged":true}}}}`),
    ]
    const told = await wall.during(async () => {
      for (const text of texts) {
        const answer = await wall.client.post('/containers/tool/execute', text)
        expect([answer.status, answer.body?.code], text).toEqual(INVALID)
        cases += 1
      }
    })
    expect(changes(told)).toEqual([])
    expect(({} as Body)['privileged']).toBeUndefined()
    expect(Object.prototype).not.toHaveProperty('x')
  })
})

describe('row 23: deep and huge JSON', () => {
  const nested = (depth: number, open: string, close: string) => open.repeat(depth) + close.repeat(depth)

  it('is a 4xx, and costs little', async () => {
    const { path, body } = CALLS['tool'] as { path: string; body: Body }
    const text = JSON.stringify(body).slice(0, -1)
    const bodies = [
      nested(100_000, '[', ']'),
      nested(400_000, '[', ']'),
      `${text},"parameters":{"p":${nested(200_000, '[', ']')}}}`,
      `${text},"parameters":${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}}`,
      `${text},"environment":${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}}`,
      `${text},"labels":{${Array.from({ length: 60_000 }, (_, at) => `"k${at}":"v"`).join(',')}}}`,
      `${text},"x":${'['.repeat(500_000)}`,
      `${text},"command":[${Array.from({ length: 200_000 }, () => '"a"').join(',')}]}`,
      `${text},"stdin":"${'x'.repeat(1024 * 1024)}"}`,
      `${text},"x":${'9'.repeat(900_000)}}`,
      '"'.repeat(1_000_000),
    ]
    const before = process.memoryUsage().rss
    const told = await wall.during(async () => {
      for (const bomb of bodies) {
        const answer = await wall.client.post(path, bomb)
        expect(answer.status, bomb.slice(0, 100)).toBeGreaterThanOrEqual(400)
        expect(answer.status, `${bomb.slice(60, 160)}: ${answer.text}`).toBeLessThan(500)
        cases += 1
      }
    })
    expect(changes(told)).toEqual([])
    expect(process.memoryUsage().rss - before).toBeLessThan(400 * 1024 * 1024)
  })
})

describe('row 28: what a build may ask of the daemon', () => {
  it('is nothing remote, no other network, no other parser', async () => {
    const from = `FROM ${TOOLBOX}\n`
    const files = [
      `${from}ADD http://127.0.0.1/x /x\n`,
      `${from}add HTTP://127.0.0.1/x /x\n`,
      `${from}ADD \\\n  https://127.0.0.1/x /x\n`,
      `${from}ADD ["http://127.0.0.1/x", "/x"]\n`,
      `${from}ADD --checksum=sha256:00 https://127.0.0.1/x /x\n`,
      `${from}ADD git@127.0.0.1:x/y.git /x\n`,
      `${from}ARG U=http://127.0.0.1\nADD $U /x\n`,
      `# syntax=127.0.0.1/evil\n${from}`,
      `#escape=\`\n${from}`,
      `${from}RUN --network=host true\n`,
      `${from}RUN --security=insecure true\n`,
      `${from}RUN --mount=type=bind,source=/,target=/host true\n`,
      `${from}RUN --mount=type=ssh true\n`,
      `${from}RUN --device=/dev/sda true\n`,
      `${from}ONBUILD ADD http://127.0.0.1/x /x\n`,
    ]
    await refused(
      ['tool', 'relic'],
      files.flatMap((dockerfile) => [
        { image: undefined, dockerfile },
        { image: undefined, build: { dockerfile } },
      ]),
      DENIED,
    )
  })

  it('is no file outside of its context', async () => {
    const names = ['../x', '/etc/passwd', 'a/../../b', './x', 'a//../b', '', 'x/', 'a\0b', '..']
    await refused(
      ['tool', 'relic'],
      names.map((name) => ({ image: undefined, build: { dockerfile: `FROM ${TOOLBOX}`, files: { [name]: 'x' } } })),
      INVALID,
    )
  })
})

describe('row 30: images from elsewhere', () => {
  it('are not what a reference can say', async () => {
    const references = [
      '-',
      'x?fromSrc=http://127.0.0.1/x.tar',
      'x&fromSrc=-',
      'http://127.0.0.1/x.tar',
      'https://127.0.0.1/x',
      'file:///etc/passwd',
      'oci-archive:/x',
      '../../containers/json',
      'a/../b',
      'a/./b',
      '/etc',
      'a b',
      'UPPER/Case',
      'x%2f..%2fy',
      'x:tag/../../y',
      'x@sha256:short',
      'x#y',
      'x\ny',
      'x\0',
      '',
      null,
      ['x'],
      { fromSrc: 'x' },
    ]
    await refused(
      MAKERS,
      references.map((image) => ({ image })),
      INVALID,
    )
  })
})

describe('row 31: working directories of the kernel', () => {
  it('are refused (CVE-2024-21626)', async () => {
    const folders = [
      '/proc/self/fd/7',
      '/proc/self/fd/8/../../',
      '/proc/self/cwd',
      '/proc',
      '//proc/self/fd/8',
      '/proc/1/root',
      '/sys/kernel',
      '/dev/fd/7',
      '/a/../proc/self/fd/8',
      '/./proc/self',
      'proc/self/fd/8',
      '',
    ]
    await refused(
      ['exec'],
      folders.map((working_dir) => ({ working_dir })),
      INVALID,
    )
  })
})

describe('row 32: variables', () => {
  it('of the service are not to be set, and all together are bounded', async () => {
    const ours = ['PARAM_X', 'TOOL_PARAMETERS', 'TOOL_NAME', 'SESSION_ID', 'EXECUTION_ID', 'PARAM_']
    await refused(
      ['tool'],
      ours.map((name) => ({ environment: { [name]: 'x' } })),
      INVALID,
    )
    await refused(
      ['worker', 'ensure'],
      ['WORKER_ID', 'TASK_ID', 'SESSION_ID', '_w_x'].map((name) => ({ environment: { [name]: 'x' } })),
      INVALID,
    )
    const odd = [{ 'A=B': 'x' }, { '': 'x' }, { '1A': 'x' }, { 'A\0': 'x' }, { A: 'x\0y' }, { A: 5 }, { A: null }]
    const large = { A: 'x'.repeat(70_000) }
    const many = Object.fromEntries(Array.from({ length: 5_000 }, (_, at) => [`VARIABLE_${at}`, 'x'.repeat(10)]))
    await refused(
      [...MAKERS, 'exec'],
      [...odd, large, many].map((environment) => ({ environment })),
      INVALID,
    )
  })

  it('for the dynamic linker do not reach the programs that the service runs in a worker', async () => {
    const worker_id = 'preloaded'
    const environment = { LD_PRELOAD: '/workspace/evil.so', LD_LIBRARY_PATH: '/workspace', PATH: '/workspace' }
    const started = await wall.client.post('/containers/worker/start', {
      worker_id,
      session_id,
      image: TOOLBOX,
      command: ['/bin/sleep', '600'],
      environment,
    })
    expect(started.status, started.text).toBe(201)
    const answer = await wall.client.post(`/containers/worker/${worker_id}/exec`, {
      command: ['/bin/sh', '-c', 'echo $PATH $LD_PRELOAD'],
      environment: { ENV: '/workspace/evil', BASH_ENV: '/workspace/evil' },
    })
    expect(answer.body).toMatchObject({ exit_code: 0, stdout: '/workspace /workspace/evil.so\n', stderr: '' })
    expect((await wall.client.delete(`/containers/worker/${worker_id}`)).status).toBe(204)
  })
})

describe('text that reads like a request to the engine', () => {
  it('arrives as text alone, in every field that carries some', async () => {
    const evil = '","HostConfig":{"Privileged":true,"Binds":["/:/host"]},"x":"'
    const told = await wall.during(async () => {
      const run = await wall.client.run({
        session_id,
        command: ['echo', evil],
        environment: { EVIL: evil },
        parameters: { evil, 'HostConfig.Privileged': true, HostConfig: { Privileged: true, Binds: ['/:/host'] } },
        labels: { evil, HostConfig: evil, Privileged: 'true' },
        stdin: evil,
        input_files: { 'HostConfig.json': evil },
      })
      expect(run).toMatchObject({ status: 'completed', stdout: `${evil}\n` })
      cases += 1
    })
    const create = told.find(({ path, body }) => path.includes('/containers/create') && body.includes('EVIL='))
    const carrying = fieldsOf(create?.body.toString('utf8') ?? '')
      .filter(({ value, path }) => `${path.join('.')} ${String(value)}`.toLowerCase().includes('privileged'))
      .map(({ path }) => path[0])
    expect(new Set(carrying)).toEqual(new Set(['cmd', 'env', 'labels', 'hostconfig']))
    expect(fieldsOf(create?.body.toString('utf8') ?? '')).toContainEqual({
      path: ['hostconfig', 'privileged'],
      value: false,
    })
    expect(wall.breaches()).toEqual([])
  })
})

it('counts', async () => {
  await report('Refused values (rows 1 to 3, 6 to 8, 12, 22, 23, 28, 30 to 32)', { cases })
  expect(cases).toBeGreaterThan(400)
})
