/** Profiles with `egress`: out by a proxy of host names, and by nothing else. The outside is a network of the test's. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { encodeLabels, ownedBy } from '../../src/labels.ts'
import { type Profile, SERVICE, STRICT, WORKSPACE } from '../../src/policy/profiles.ts'
import { Client } from '../fixtures/client.ts'
import { DEBIAN } from '../fixtures/images.ts'
import { removeAll, startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

const PORT = 8080
/** One that the decoy serves, and that is not on the list. */
const OTHER_PORT = 8081
const outsideOf = randomUUID()
const outsideName = `outside_${outsideOf.slice(0, 8)}`
const subnet = `10.193.${Math.floor(Math.random() * 250)}.0/27`

/** Serves both ports, and prints a line for each request: its first line, and headers that tell of a proxy. */
const DECOY = `
import socket, threading
def serve(port):
    with socket.create_server(('', port)) as server:
        while True:
            with server.accept()[0] as s:
                head = b''
                while b'\\r\\n\\r\\n' not in head and (part := s.recv(4096)): head += part
                if not head: continue
                first, *headers = head.decode().split('\\r\\n')
                marks = [h for h in headers if h.lower().split(':')[0] in ('via', 'x-forwarded-for', 'forwarded')]
                print('asked', port, first.split()[1], marks, flush=True)
                s.sendall(b'HTTP/1.0 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\ndecoy')
for port in (${PORT}, ${OTHER_PORT}): threading.Thread(target=serve, args=(port,)).start()
print('serves', flush=True)`

/** Prints what each of the requests got, in JSON. */
const ASK = `
import os, socket, sys
host, port = os.environ['http_proxy'].removeprefix('http://').split(':')
def ask(how, target):
    try:
        if how == 'direct':
            with socket.create_connection(tuple(target.rsplit(':', 1)), 2) as s: return 'connected'
        with socket.create_connection((host, int(port)), 5) as s:
            s.settimeout(20)
            if how == 'GET': s.sendall(f'GET http://{target}/?secret=1 HTTP/1.0\\r\\n\\r\\n'.encode())
            else:
                s.sendall(f'CONNECT {target} HTTP/1.1\\r\\nHost: {target}\\r\\n\\r\\n'.encode())
                answer = s.recv(4096).decode()
                if ' 200 ' not in answer.split('\\r\\n')[0]: return answer.split()[1]
                s.sendall(b'GET /tunnel HTTP/1.0\\r\\n\\r\\n')
            answer = b''
            while part := s.recv(4096): answer += part
            return answer.split()[1].decode() + (' decoy' if answer.endswith(b'decoy') else '')
    except OSError as error: return type(error).__name__
print(str({f'{how} {target}': ask(how, target) for how, target in (line.split() for line in sys.argv[1:])}).replace("'", '"'))`

let service: TestService
let client: Client
let engine: DockerEngine
let outside: { id: string; decoy: string; address: string }

const egress = { hosts: ['allowed.test', '*.wild.test'], ports: [PORT, 443], privateRanges: [subnet] }
const profiles: Profile[] = [
  { ...STRICT, name: 'online', networks: new Set(['none', 'egress']), egress },
  { ...STRICT, name: 'public-only', networks: new Set(['egress']), egress: { ...egress, privateRanges: [] } },
  { ...SERVICE, name: 'online-relic', networks: new Set(['egress']), egress },
  { ...WORKSPACE, name: 'online-worker', networks: new Set(['egress']), egress },
]

const start = (dataDir?: string) =>
  startService({
    ...(dataDir === undefined ? {} : { dataDir }),
    config: {
      egressNetwork: outsideName,
      profiles: new Map([STRICT, SERVICE, WORKSPACE, ...profiles].map((profile) => [profile.name, profile])),
    },
  })

beforeAll(async () => {
  engine = await DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' })
  const labels = (kind: 'network' | 'relic') =>
    encodeLabels({ instance: outsideOf, kind, id: outsideName, nonce: randomUUID() })
  // Internal: a mistake of this test's must not reach the real outside.
  const id = await engine.networks.create({ name: outsideName, subnet, internal: true, labels: labels('network') })
  const decoy = await engine.containers.create({
    name: `decoy_${outsideName}`,
    imageId: (await engine.images.inspect(DEBIAN))?.id ?? '',
    command: ['python3', '-c', DECOY],
    environment: {},
    labels: labels('relic'),
    openStdin: false,
    resources: { memoryBytes: 128 * 1024 ** 2, cpus: 1, pids: 64, openFiles: { soft: 1024, hard: 1024 } },
    sandbox: { readonlyRoot: true, capabilities: [], tmpfs: [] },
    mounts: [],
    network: { mode: 'network', networkId: id, aliases: ['allowed.test', 'a.wild.test', 'wild.test', 'other.test'] },
    ports: [],
  })
  await engine.containers.start(decoy)
  await vi.waitUntil(async () => (await said(decoy)).includes('serves'), { timeout: 10_000, interval: 100 })
  outside = { id, decoy, address: (await engine.containers.inspect(decoy))?.networks[0]?.address ?? '' }
  service = await start()
  client = new Client(service.url)
})
let before = ''
beforeEach(async () => {
  before = await said(outside.decoy)
})
afterAll(async () => {
  await service?.destroy()
  await removeAll(engine, outsideOf)
  await engine.close()
})

async function said(containerId: string): Promise<string> {
  let text = ''
  for await (const { bytes } of engine.containers.logs(containerId, { follow: false })) text += bytes.toString()
  return text
}

/** Requests that the decoy got since the test began. */
async function asked(): Promise<string[]> {
  return (await said(outside.decoy)).slice(before.length).split('\n').filter(Boolean)
}

async function ask(session_id: string, requests: readonly string[], profile = 'online') {
  const command = ['python3', '-c', ASK, ...requests]
  const run = await client.run({ session_id, image: DEBIAN, profile, network_mode: 'egress', command })
  expect(run).toMatchObject({ failure: null, status: 'completed', stderr: '' })
  return JSON.parse(run.stdout)
}

const proxiesOf = async (session: string) =>
  (await service.services.docker.list({ session })).filter(({ owner }) => owner.kind === 'egress')

describe('a tool of a profile with egress', () => {
  it('reaches names and ports of the list by HTTP and CONNECT, and is not told of', async () => {
    const session = newSession('out')
    expect(
      await ask(session, [`GET allowed.test:${PORT}`, `CONNECT allowed.test:${PORT}`, `GET a.wild.test:${PORT}`]),
    ).toEqual({
      [`GET allowed.test:${PORT}`]: '200 decoy',
      [`CONNECT allowed.test:${PORT}`]: '200 decoy',
      [`GET a.wild.test:${PORT}`]: '200 decoy',
    })
    expect(await asked()).toEqual([
      `asked ${PORT} /?secret=1 []`,
      `asked ${PORT} /tunnel []`,
      `asked ${PORT} /?secret=1 []`,
    ])
    const [proxy] = await proxiesOf(session)
    const log = await said(proxy?.id ?? '')
    expect(log).toContain(`GET allowed.test:${PORT}`)
    expect(log).not.toContain('secret')
  })

  it('reaches no other name, no address, no other port, and nothing without the proxy', async () => {
    const requests = [
      ...['GET', 'CONNECT'].flatMap((how) =>
        [
          `other.test:${PORT}`,
          `wild.test.other.test:${PORT}`,
          `${outside.address}:${PORT}`,
          `[::ffff:${outside.address}]:${PORT}`,
          `allowed.test:${OTHER_PORT}`,
          `127.0.0.1:3128`,
          `169.254.169.254:${PORT}`,
        ].map((target) => `${how} ${target}`),
      ),
      `CONNECT allowed.test:22`,
    ]
    const answers = await ask(newSession('shut'), [...requests, `direct ${outside.address}:${PORT}`])
    const { [`direct ${outside.address}:${PORT}`]: direct, ...proxied } = answers
    expect(proxied).toEqual(Object.fromEntries(requests.map((request) => [request, '403'])))
    expect(direct).not.toBe('connected')
    expect(await asked()).toEqual([])
  })

  it('reaches no name of the list whose address is not public, where no range was opened', async () => {
    const request = `GET allowed.test:${PORT}`
    expect(await ask(newSession('private'), [request, `CONNECT allowed.test:${PORT}`], 'public-only')).toEqual({
      [request]: '403',
      [`CONNECT allowed.test:${PORT}`]: '403',
    })
    expect(await asked()).toEqual([])
  })

  it('is refused the network where its profile has none of it', async () => {
    const answer = await client.post('/containers/tool/execute', {
      tool_name: 'curious',
      session_id: newSession(),
      image: DEBIAN,
      command: ['true'],
      network_mode: 'egress',
    })
    expect([answer.status, answer.body.code]).toEqual([403, 'policy_denied'])
  })
})

describe('relics and workers of a profile with egress', () => {
  it('go out by the proxy of their session, and keep their own variables', async () => {
    const session_id = newSession('both')
    const request = `GET allowed.test:${PORT}`
    const relic = await client.post('/containers/relic/start', {
      relic_name: 'feed',
      session_id,
      image: DEBIAN,
      profile: 'online-relic',
      command: ['python3', '-c', `${ASK}\nimport time; sys.stdout.flush(); time.sleep(600)`, request],
      environment: { NO_PROXY: 'mine' },
      health_check_endpoint: null,
    })
    expect(relic.status).toBe(201)
    await expect
      .poll(async () => (await client.get(`/containers/relic/${relic.body.relic_id}/logs`)).text, { timeout: 20_000 })
      .toContain(`{"${request}": "200 decoy"}`)
    const worker_id = newSession('worker')
    const worker = await client.post('/containers/worker/start', {
      worker_id,
      session_id,
      image: DEBIAN,
      profile: 'online-worker',
      network: 'egress',
    })
    expect(worker.status).toBe(201)
    const { body } = await client.post(`/containers/worker/${worker_id}/exec`, {
      command: ['python3', '-c', ASK, request],
    })
    expect(JSON.parse(body.stdout)).toEqual({ [request]: '200 decoy' })
    expect((await proxiesOf(session_id)).map(({ owner }) => owner.name).sort()).toEqual([
      'online-relic',
      'online-worker',
    ])
  })
})

describe('the proxy', () => {
  it('is one for ten runs at once, has no rights, and goes with its session', async () => {
    const session_id = newSession('one')
    await Promise.all(Array.from({ length: 10 }, () => ask(session_id, [`GET allowed.test:${PORT}`])))
    const proxies = await proxiesOf(session_id)
    expect(proxies).toHaveLength(1)
    const state = await engine.containers.inspect(proxies[0]?.id ?? '')
    expect(state).toMatchObject({ user: '13:13', limits: { memoryBytes: 96 * 1024 ** 2, pids: 32 } })
    await client.post('/containers/cleanup/session', { session_id, force: true })
    expect(await proxiesOf(session_id)).toEqual([])
    expect(await service.services.networks.get(session_id)).toBeUndefined()
  })

  it('is started again where it died, also by a restart of the service, and swept where its session is gone', async () => {
    const session_id = newSession('again')
    await ask(session_id, [`GET allowed.test:${PORT}`])
    const [proxy] = await proxiesOf(session_id)
    const id = proxy?.id ?? ''
    await engine.containers.kill(id)
    await service.services.reconciler.reconcile({ graceMs: 0 })
    expect((await engine.containers.inspect(id))?.status).toBe('running')

    await engine.containers.kill(id)
    await service.stop()
    service = await start(service.dataDir)
    client = new Client(service.url)
    expect((await engine.containers.inspect(id))?.status).toBe('running')
    await expect
      .poll(async () => Object.values(await ask(session_id, [`GET allowed.test:${PORT}`])), { timeout: 10_000 })
      .toEqual(['200 decoy'])
    expect((await proxiesOf(session_id)).map((container) => container.id)).toEqual([id])

    const orphan = await service.services.docker.create({
      owner: { kind: 'egress', id: 'egress_0', session: newSession('gone'), name: 'online', nonce: randomUUID() },
      containerName: `egress_${randomUUID().slice(0, 8)}`,
      imageId: proxy?.imageId ?? '',
      plan: {
        command: [],
        environment: {},
        openStdin: false,
        resources: { memoryBytes: 32 * 1024 ** 2, cpus: 1, pids: 8, openFiles: { soft: 64, hard: 64 } },
        sandbox: { readonlyRoot: true, capabilities: [], tmpfs: [] },
        mounts: [],
        ports: [],
      },
      network: { mode: 'none' },
    })
    await service.services.reconciler.reconcile({ graceMs: 0 })
    expect(await engine.containers.inspect(orphan)).toBeUndefined()
    expect((await engine.containers.inspect(id))?.status).toBe('running')
    expect(await engine.containers.list(ownedBy(service.instance, 'egress', session_id))).toHaveLength(1)
  })
})
