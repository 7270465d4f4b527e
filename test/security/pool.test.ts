/** Containers that are parked ahead of need: what a run in one is told and sees, which one it gets, and what is left of them. */
import { text } from 'node:stream/consumers'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { callEngine } from '../../scripts/engine-client.ts'
import { ownedBy } from '../../src/labels.ts'
import { type Answer, Client, sh, toolRequest } from '../fixtures/client.ts'
import { DEBIAN, HTTPD, NONROOT, TOOLBOX } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'
import { buildShellless, removeImage } from '../fixtures/shellless.ts'
import { untilParked, WarmClient } from '../fixtures/warm-client.ts'

type Request = Record<string, unknown>
type Run = Answer['body']

const EXECUTE = '/containers/tool/execute'
const AMPLE = { CO_POOL_MAX: '64', CO_POOL_MEMORY_MB: '100000' }

/** Side by side on one engine: what the one runs in a parked container, the other runs in one of its own. */
let parking: TestService
let other: TestService
let client: WarmClient
let cold: Client
/** Of the first, without priming. */
let plain: Client

beforeAll(async () => {
  ;[parking, other] = await Promise.all([startService({ environment: AMPLE }), startService()])
  client = new WarmClient(parking.url)
  cold = new Client(other.url)
  plain = new Client(parking.url)
})
afterAll(() => Promise.all([parking.destroy(), other.destroy()]))

/** The run in a parked container, and in one of its own. */
async function both(request: Request, end?: readonly string[]): Promise<[Run, Run]> {
  await client.prime(request, end)
  const runs: [Run, Run] = [await plain.run(request), await cold.run(request)]
  expect(runs.map((run) => run.warm)).toEqual([true, false])
  return runs
}

/** Waits until a run that was begun without waiting for it has this status. */
async function reached(run: Run, status: string): Promise<Run> {
  const look = async () => (await client.get(`/containers/tool/${run.execution_id}`)).body
  await expect.poll(async () => (await look()).status).toBe(status)
  return look()
}

async function inspected(id: string): Promise<Record<string, unknown>> {
  return JSON.parse(await text(await callEngine('GET', `/containers/${id}/json`)))
}

const parked = () => parking.engine.containers.list(ownedBy(parking.instance, 'pool'))

describe('what a tool in a parked container is told', () => {
  /** Tells what the kernel has of it: arguments, variables and stdin, each behind a line of its own. */
  const TELL = 'cat /proc/$$/cmdline; printf "\\n--\\n"; cat /proc/$$/environ; printf "\\n--\\n"; cat'
  const told = ({ stdout, execution_id }: Run) => {
    const [argv, environ, ...stdin] = stdout.replaceAll(execution_id, 'ID').split('\n--\n')
    const variables = (environ ?? '').split('\0').filter((word: string) => !word.startsWith('HOSTNAME='))
    return { argv: argv?.split('\0'), variables: variables.toSorted(), stdin: stdin.join('\n--\n') }
  }

  const character = fc.constantFrom(...`'"\\$\`(){};&|<>#*?~!= \t\r\n-a1éÁ漢🦀\u0001\u0081\u0088\u007f`)
  const word = fc.string({ unit: character, maxLength: 40 })
  const name = fc.stringMatching(/^[A-Z][A-Z0-9_]{1,6}$/).map((candidate) => `V_${candidate}`)
  const request = fc.record({
    argv: fc.array(word, { maxLength: 4 }),
    environment: fc.dictionary(name, word, { maxKeys: 3, noNullPrototype: true }),
    parameters: fc.dictionary(name, fc.jsonValue({ maxDepth: 2 }), { maxKeys: 3, noNullPrototype: true }),
    stdin: fc.option(word, { nil: undefined }),
  })

  it('is what it is told in one of its own, byte for byte', async () => {
    const AT_ONCE = 5
    // Asked for at once: so many are parked from then on.
    await Promise.all(batchOf(AT_ONCE, () => plain.run({ command: ['true'] })))
    const requests = fc.array(request, { minLength: AT_ONCE, maxLength: AT_ONCE })
    await fc.assert(
      fc.asyncProperty(requests, async (batch) => {
        await untilParked(client)
        const asked = batch.map(({ argv, ...rest }) => ({ ...rest, command: [...sh(TELL), 'tell', ...argv] }))
        const runs = await Promise.all(asked.map((one) => Promise.all([plain.run(one), cold.run(one)])))
        for (const [warm, own] of runs) {
          expect(warm.warm).toBe(true)
          expect(told(warm)).toEqual(told(own))
        }
      }),
      { numRuns: 6 },
    )
  })

  it('holds 100 KB in parameters, arguments and stdin each', async () => {
    const much = "it's\n漢".repeat(10_000)
    const [warm, own] = await both({
      command: [...sh(TELL), 'tell', much],
      parameters: { much },
      stdin: much,
    })
    expect(told(warm)).toEqual(told(own))
    expect(told(warm).stdin).toBe(much)
  })

  it('is in no inspect of its container, nor in its name or labels', async () => {
    const secret = 'hush-4711'
    const asked = {
      command: sh('echo begun; read line; sleep 600'),
      parameters: { secret },
      environment: { SECRET: secret },
      stdin: `${secret}\n`,
      wait: false,
    }
    const run = await reached(await client.run(asked), 'running')
    expect(run.warm).toBe(true)
    expect(JSON.stringify(await inspected(run.container_id))).not.toContain(secret)
    await client.post(`/containers/tool/${run.execution_id}/cancel`)
    const own = await cold.run(asked)
    await expect.poll(async () => (await cold.get(`/containers/tool/${own.execution_id}`)).body.stdout).toBe('begun\n')
    const { container_id } = (await cold.get(`/containers/tool/${own.execution_id}`)).body
    expect(JSON.stringify(await inspected(container_id))).toContain(secret)
    await cold.post(`/containers/tool/${own.execution_id}/cancel`)
  })
})

describe('what a tool in a parked container finds', () => {
  const SITUATION = [
    'readlink /proc/$$/cwd; umask; readlink /proc/$$/exe; awk "/PPid/{print \\$2}" /proc/$$/status',
    'for fd in /proc/$$/fd/[0-2]; do readlink $fd | sed "s/[0-9]*//g"; grep flags /proc/$$/fdinfo/${fd##*/}; done',
    'ls -x /proc/self/fd',
    'grep -E "^(Cap|NoNew|Secc|Groups|Uid|Gid|Sig(Ign|Cgt))" /proc/self/status',
    'cat /proc/$$/limits /proc/$$/oom_score_adj /proc/$$/cgroup /proc/1/comm',
    'cat /etc/resolv.conf; grep -v "$(hostname)" /etc/hosts',
    'awk "\\$2 != \\"/.toolbox\\" {print \\$2, \\$3, \\$2 == \\"/\\" ? substr(\\$4, 1, 2) : \\$4}" /proc/mounts | sort',
    'sed -n "s/^ *\\([a-z]*\\)[0-9]*[:\\t].*/\\1/p" /proc/net/dev /proc/net/route; ls -a /output /tmp; ls -ld /output /tmp | cut -c1-10',
  ].join('\n')

  it.each([
    ['stdin', { image: DEBIAN, stdin: 'x' }],
    ['an image whose user is not root', { image: NONROOT }],
    [
      'limits, a profile and folders',
      {
        resource_limits: { memory_mb: 64, pids_limit: 40, cpu_limit: 0.5 },
        profile: 'strict',
        input_files: { '/data/x': '', '/tmp/y': '' },
        output_paths: ['/work/z'],
      },
    ],
    ['the network of its session', { network_mode: 'session', session_id: newSession('pool') }],
  ])('is what it finds in one of its own: %s', async (_what, request) => {
    const [warm, own] = await both({ ...request, command: sh(SITUATION) })
    expect(warm.stdout).toBe(own.stdout)
    expect([warm.stderr, warm.exit_code]).toEqual([own.stderr, own.exit_code])
  })

  it('is an image without a shell', async () => {
    const image = await buildShellless()
    try {
      const [warm, own] = await both({ image, entrypoint: ['/busybox', 'env'], environment: { A: 'b c' } }, [
        '/busybox',
        'true',
      ])
      expect(warm).toMatchObject({ status: 'completed', stderr: '' })
      const sorted = ({ stdout, execution_id }: Run) =>
        stdout
          .replaceAll(execution_id, 'ID')
          .replace(/HOSTNAME=.*/, '')
          .split('\n')
          .toSorted()
      expect(sorted(warm)).toEqual(sorted(own))
      expect(warm.stdout).toContain('A=b c\n')
    } finally {
      await removeImage(image)
    }
  })

  it('is the network of its session and no other, with the relics of it by their names', async () => {
    const session_id = newSession('pool')
    const relic = await client.post('/containers/relic/start', { relic_name: 'web', session_id, image: HTTPD })
    expect(relic.status).toBe(201)
    const command = sh('wget -qO- http://web:8000/health; sleep 600')
    const run = await client.run({ session_id, network_mode: 'session', command, wait: false })
    await expect
      .poll(async () => (await client.get(`/containers/tool/${run.execution_id}`)).body.stdout)
      .toContain('ok')
    const { container_id, warm } = (await client.get(`/containers/tool/${run.execution_id}`)).body
    const state = await parking.engine.containers.inspect(container_id)
    expect(warm).toBe(true)
    expect(state?.networks.map(({ networkName }) => networkName)).toEqual([relic.body.network.name])
    expect((await client.post('/containers/cleanup/session', { session_id, force: true })).status).toBe(200)
    await parking.services.docker.settled()
    expect(await parking.engine.containers.inspect(container_id)).toBeUndefined()
  })
})

describe('which container a run gets', () => {
  it('has the name of the run from then on, and the labels of the request', async () => {
    await client.prime({ labels: { team: 'blue' } })
    const waiting = (await parked()).find(({ labels }) => labels['team'] === 'blue')
    expect(waiting?.name).toMatch(/^pool_/)
    const asked = { tool_name: 'named', session_id: 'its', labels: { team: 'blue' }, command: ['sleep', '600'] }
    const run = await reached(await client.run({ ...asked, wait: false }), 'running')
    expect(run.container_id).toBe(waiting?.id)
    await expect
      .poll(async () => (await parking.engine.containers.inspect(run.container_id))?.name)
      .toMatch(/^tool_named_its_[0-9a-f]{8}$/)
    const found = (await client.get('/containers/stats?session_id=its')).body
    expect(JSON.stringify(found)).toContain(run.execution_id)
    expect((await client.post('/containers/cleanup/session', { session_id: 'its' })).body).toMatchObject({
      tools_cancelled: 1,
    })
    expect((await reached(run, 'cancelled')).failure.code).toBe('cancelled')
  })

  it('serves it alone, and goes with it', async () => {
    await client.prime({})
    const first = await client.run({ command: sh('echo x > /tmp/left; echo y > /output/left') })
    const second = await client.run({ command: sh('ls /tmp /output') })
    expect(second).toMatchObject({ warm: true, stdout: '/output:\n\n/tmp:\n' })
    expect(second.container_id).not.toBe(first.container_id)
    await parking.services.docker.settled()
    expect(await parking.engine.containers.inspect(first.container_id)).toBeUndefined()
  })

  it('is one for each of many at once, and one of its own where none is left', async () => {
    const labels = { kind: 'many' }
    await client.prime({ labels })
    const { parked: before } = (await client.get('/health')).body.pool
    const runs = await Promise.all(batchOf(6, () => plain.run({ labels, command: sh('echo $EXECUTION_ID') })))
    for (const run of runs) expect(run.stdout).toBe(`${run.execution_id}\n`)
    expect(new Set(runs.map((run) => run.container_id)).size).toBe(6)
    expect(runs.filter((run) => run.warm)).toHaveLength(1)
    await untilParked(client)
    expect((await client.get('/health')).body.pool.parked).toBeGreaterThan(before)
    const again = await Promise.all(batchOf(5, () => plain.run({ labels, command: ['true'] })))
    expect(again.every((run) => run.warm)).toBe(true)
  })

  it('is never one that ended', async () => {
    await using service = await startService({ environment: AMPLE })
    const { engine } = service
    await new WarmClient(service.url).prime({})
    const [waiting] = await engine.containers.list(ownedBy(service.instance, 'pool'))
    const id = waiting?.id ?? ''
    await engine.containers.kill(id)
    await expect.poll(() => engine.containers.inspect(id)).toBeUndefined()
    const run = await new Client(service.url).run({ command: sh('echo alive') })
    expect(run).toMatchObject({ status: 'completed', stdout: 'alive\n' })
    expect(run.container_id).not.toBe(id)
  })

  it('is never one of an image that had the name before', async () => {
    const tag = `container-orchestrator-test/moving:${newSession('t')}`
    const [repository, name] = tag.split(':')
    const point = (image: string) =>
      callEngine('POST', `/images/${image}/tag?repo=${repository}&tag=${name}`).then(text)
    await point(TOOLBOX)
    try {
      const first = await client.run({ image: tag, command: sh('id -u') })
      expect(first).toMatchObject({ warm: true, stdout: '0\n' })
      await untilParked(client)
      await point(NONROOT)
      const moved = await plain.run({ image: tag, command: sh('id -u') })
      expect(moved).toMatchObject({ status: 'completed', stdout: '1000\n' })
      expect(moved.image_id).not.toBe(first.image_id)
    } finally {
      await removeImage(tag)
    }
  })
})

describe('a command that cannot be run', () => {
  const input_files = {
    '/data/text': 'echo text\n',
    '/data/orphan': '#!/no/such/interpreter\necho x\n',
    '/data/nested': '#!/data/script\n',
    '/data/script': '#! /bin/sh -e\necho "$0" "$@"\n',
    '/data/empty': '',
  }
  /** Which process of the container said it is a matter of chance. */
  const told = ({ status, exit_code, failure, stdout, stderr }: Run) => ({
    status,
    exit_code,
    failure,
    stdout,
    stderr: stderr.replace(/tini \(\d+\)/, 'tini'),
  })

  it('ends as in a container of its own', async () => {
    const AT_ONCE = 5
    const commands = [['/no/such'], ['absent'], ['/etc'], ['/etc/hosts'], ['-x'], ['']]
      .concat(Object.keys(input_files).map((path) => [path, 'a b', '']))
      .concat([sh('exit 125'), sh('exit 127'), sh('kill -9 $$')])
    const asked = commands.map((command) => toolRequest({ input_files, command }))
    await Promise.all(batchOf(AT_ONCE, () => plain.run({ input_files, command: ['true'] })))
    while (asked.length > 0) {
      await untilParked(client)
      const ends = asked.splice(0, AT_ONCE).map(async (one) => {
        const [warm, own] = await Promise.all([plain.post(EXECUTE, one), cold.post(EXECUTE, one)])
        expect([warm.status, told(warm.body)], String(one['command'])).toEqual([own.status, told(own.body)])
      })
      await Promise.all(ends)
    }
    expect((await client.get('/health')).body.pool.hits).toBeGreaterThan(commands.length)
  })
})

describe('the bounds', () => {
  it('are told by /health, with what was found and what was not', async () => {
    await using service = await startService({ environment: { CO_POOL_MAX: '3', CO_POOL_MEMORY_MB: '1536' } })
    const caller = new Client(service.url)
    const pool = async () => (await caller.get('/health')).body.pool
    const none = { parked: 0, wanted: 0, max: 3, memory_mb: 0, hits: 0, misses: 0 }
    expect(await pool()).toEqual(none)
    expect(await caller.run({ command: ['true'] })).toMatchObject({ warm: false })
    await untilParked(caller)
    expect(await pool()).toEqual({ ...none, parked: 1, wanted: 1, memory_mb: 512, misses: 1 })
    expect(await caller.run({ command: ['true'] })).toMatchObject({ warm: true })
    await untilParked(caller)
    expect(await pool()).toEqual({ ...none, parked: 1, wanted: 1, memory_mb: 512, hits: 1, misses: 1 })
    for (const own of [{ volumes: [{ source: 'v', target: '/v' }] }, { cleanup: false }]) {
      expect(await caller.run({ ...own, command: ['true'] })).toMatchObject({ warm: false })
    }
    expect(await pool()).toMatchObject({ hits: 1, misses: 1 })
  })

  it('hold in memory', async () => {
    await using service = await startService({ environment: { CO_POOL_MAX: '8', CO_POOL_MEMORY_MB: '512' } })
    const caller = new Client(service.url)
    await Promise.all(batchOf(3, () => caller.run({ command: ['true'] })))
    await expect.poll(async () => (await caller.get('/health')).body.pool).toMatchObject({ parked: 1, memory_mb: 512 })
    await caller.run({ command: ['true'], resource_limits: { memory_mb: 8 } })
    await caller.run({ command: ['true'] })
    await expect.poll(async () => (await caller.get('/health')).body.pool).toMatchObject({ parked: 1, hits: 1 })
    expect(await service.engine.containers.list(ownedBy(service.instance, 'pool'))).toHaveLength(1)
  })

  it('let nothing be parked where they are 0', async () => {
    await cold.run({ command: ['true'] })
    await cold.run({ command: ['true'] })
    expect((await cold.get('/health')).body.pool).toMatchObject({ parked: 0, wanted: 0, max: 0, hits: 0, misses: 0 })
    expect(await other.engine.containers.list(ownedBy(other.instance, 'pool'))).toEqual([])
  })
})

describe('a stop', () => {
  it('leaves nothing of the pool on the engine', async () => {
    await using service = await startService({ environment: AMPLE })
    const caller = new WarmClient(service.url)
    await caller.prime({ image: NONROOT })
    await caller.prime({ network_mode: 'session', session_id: newSession('pool') })
    const { engine } = parking
    const volumes = async () => (await engine.volumes.list(ownedBy(service.instance, 'volume'))).map(({ name }) => name)
    expect(await engine.containers.list(ownedBy(service.instance))).toHaveLength(2)
    expect(await volumes()).toEqual([expect.stringMatching(/^pool_/)])
    await service.stop()
    expect(await engine.containers.list(ownedBy(service.instance))).toEqual([])
    expect(await volumes()).toEqual([])
  })
})

function batchOf<T>(count: number, make: () => T): T[] {
  return Array.from({ length: count }, make)
}
