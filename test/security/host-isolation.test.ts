/** SECURITY.md, fact 3: what is on a session's network, or on the workers', reaches nothing of the host. */
import { spawnSync } from 'node:child_process'
import { networkInterfaces } from 'node:os'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { NetworkManager } from '../../src/managers/network-manager.ts'
import { Client } from '../fixtures/client.ts'
import { EVERYBODY, HostDecoy, hostAddresses, probeProgram } from '../fixtures/host-probe.ts'
import { DEBIAN, HTTPD } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

const log = { debug() {}, info() {}, warn() {}, error() {} }
/** Of the range in which clouds answer for their machines; never the address at which they do. */
const METADATA_DECOY = '169.254.77.77'
let service: TestService
let client: Client
let decoy: HostDecoy

beforeAll(async () => {
  service = await startService()
  client = new Client(service.url)
  decoy = await HostDecoy.listen()
  expect(spawnSync('ip', ['address', 'add', `${METADATA_DECOY}/32`, 'dev', 'lo']).status).toBe(0)
})
afterEach(() => decoy.forget())
afterAll(async () => {
  spawnSync('ip', ['address', 'delete', `${METADATA_DECOY}/32`, 'dev', 'lo'])
  await decoy?.close()
  await service?.destroy()
})

/** What a tool of the session prints. */
async function run(session_id: string, command: readonly string[], image = DEBIAN): Promise<string> {
  const body = await client.run({
    session_id,
    image,
    command,
    network_mode: 'session',
    resource_limits: { pids_limit: 1024 },
  })
  expect(body).toMatchObject({ status: 'completed' })
  return body.stdout
}

/** Lines that say what was reached. */
function hitsOf(output: string): string[] {
  const lines = output.trim().split('\n')
  expect(lines.pop()).toMatch(/^probed \d+$/)
  return lines
}

/** Each of the host's addresses, of the network's, and of everybody on it. */
function targets(subnet: string): string[] {
  const [network = ''] = subnet.split('/')
  const at = (offset: number) => network.replace(/\d+$/, (last) => String(Number(last) + offset))
  const addresses = [...hostAddresses(), ...EVERYBODY, at(1), at(31)]
  expect(addresses).toEqual(expect.arrayContaining(['127.0.0.1', METADATA_DECOY]))
  return [...new Set(addresses)].filter((address) => !address.startsWith('127.'))
}

async function subnetOf(session: string): Promise<string> {
  return (await service.services.networks.ensure(session)).subnet ?? ''
}

describe('a session network', () => {
  it('reaches no address of the host, no address of metadata services, no published port of another session, and not this API', async () => {
    const [session, other] = [newSession('shut'), newSession('peer')]
    const relic = await client.post('/containers/relic/start', {
      relic_name: 'web',
      session_id: other,
      image: HTTPD,
      ports: { '8000': 0 },
    })
    expect(relic.status).toBe(201)
    const published = Number(relic.body.ports['8000'])
    expect((await fetch(`http://127.0.0.1:${published}/health`)).status).toBe(200)

    const addresses = targets(await subnetOf(session))
    // The decoy listens on all addresses of the host, as the API would where an operator has it do so.
    const ports = [decoy.port, published, Number(new URL(service.url).port)]
    expect(hitsOf(await run(session, probeProgram(addresses, ports)))).toEqual([])
    expect(decoy).toMatchObject({ connections: 0, datagrams: [] })
  })

  it('would reach them all by TCP and UDP without what shuts it off', async () => {
    const session = newSession('open')
    const open = new NetworkManager({
      engine: service.engine,
      instance: service.instance,
      range: '10.194.0.0/24',
      isolation: 'none',
      log,
    })
    const network = await open.ensure(session)
    const addresses = targets(network.subnet ?? '')
    const hits = hitsOf(await run(session, probeProgram(addresses, [decoy.port])))
    const routable = Object.values(networkInterfaces())
      .flatMap((entries) => entries ?? [])
      .filter(({ family, address }) => family === 'IPv4' && !address.startsWith('127.'))
    // Others on this machine make and remove networks all the time.
    const lasting = routable.filter(({ address }) => addresses.includes(address)).map(({ address }) => address)
    for (const address of [...lasting, METADATA_DECOY]) {
      expect(hits).toContain(`SOCK_STREAM ${address} ${decoy.port} routed`)
      expect(hits).toContain(`SOCK_STREAM ${address} ${decoy.port} on link`)
      expect(decoy.datagrams).toContain(address)
    }
    for (const everybody of EVERYBODY) expect(decoy.datagrams).toContain(everybody)
    await service.services.networks.remove(network)
  })

  it('has no address of the host on it, no IPv6 inside, and says so', async () => {
    const session = newSession('told')
    const { id } = await service.services.networks.ensure(session)
    const bridge = networkInterfaces()[`br-${id.slice(0, 12)}`] ?? []
    expect(bridge.filter(({ family }) => family === 'IPv4')).toEqual([])
    expect(await run(session, ['cat', '/proc/net/if_inet6'])).toBe('')
    const { isolation } = (await client.get('/health')).body
    expect(isolation).toEqual({ session_networks: 'inhibit_ipv4', verified: true, datagrams: 'refused', weaker: 0 })
    expect(service.logged()).toContainEqual(
      expect.objectContaining({ event: 'networks.isolation', inForce: 'inhibit_ipv4' }),
    )
  })

  it('resolves the names of its session, and fails soon for others', async () => {
    const session_id = newSession('names')
    expect((await client.post('/containers/relic/start', { relic_name: 'web', session_id, image: HTTPD })).status).toBe(
      201,
    )
    const program = `
import socket, time
for name in ('web', 'absent', 'absent.example.org'):
    began = time.time()
    try: answer = bool(socket.gethostbyname(name))
    except OSError: answer = False
    print(name, answer, time.time() - began < (0.9 if '.' not in name else 4.5))`
    expect(await run(session_id, ['python3', '-c', program])).toBe(
      'web True True\nabsent False True\nabsent.example.org False True\n',
    )
    expect(await run(session_id, ['cat', '/etc/resolv.conf'])).toMatch(/^nameserver 127\.0\.0\.11\n/)
  })

  it('gives nobody raw sockets: not a tool, and not a relic that is root', async () => {
    const session_id = newSession('raw')
    const raw = `
import socket
for family, kind in ((socket.AF_INET, socket.SOCK_RAW), (socket.AF_PACKET, socket.SOCK_RAW)):
    try: socket.socket(family, kind, 1); print('raw')
    except PermissionError: print('refused')`
    expect(await run(session_id, ['python3', '-c', raw])).toBe('refused\nrefused\n')
    const relic = await client.post('/containers/relic/start', {
      relic_name: 'root',
      session_id,
      image: DEBIAN,
      command: ['python3', '-c', `${raw}\nimport os, time; print(os.getuid(), flush=True); time.sleep(600)`],
      health_check_endpoint: null,
    })
    expect(relic.status).toBe(201)
    await expect
      .poll(async () => (await client.get(`/containers/relic/${relic.body.relic_id}/logs`)).text, { timeout: 10_000 })
      .toContain('refused\nrefused\n0\n')
  })
})

describe('the bridge of workers', () => {
  it('reaches no address of the host', async () => {
    const started = await client.post('/containers/worker/start', { worker_id: `shut-${newSession()}`, image: DEBIAN })
    expect(started.status).toBe(201)
    const { subnet } = await service.services.networks.ensureInternal()
    const { body } = await client.post(`/containers/worker/${started.body.worker_id}/exec?wait=true`, {
      command: probeProgram(targets(subnet ?? ''), [decoy.port]),
    })
    expect(hitsOf(body.stdout)).toEqual([])
    expect(decoy).toMatchObject({ connections: 0, datagrams: [] })
  })
})

describe('networks that another version made open to the host', () => {
  it('are made anew where nothing was made for them, and kept and told of where something was', async () => {
    const first = await startService()
    const { dataDir, instance } = first
    const range = '10.194.1.0/24'
    const old = new NetworkManager({ engine: first.engine, instance, range, isolation: 'none', log })
    const [empty, used] = [newSession('empty'), newSession('used')]
    const caller = new Client(first.url)
    await caller.post('/sessions', { session_id: empty })
    const open = [await old.ensure(empty), await old.ensure(used)]
    const relic = { relic_name: 'web', session_id: used, image: HTTPD }
    expect((await caller.post('/containers/relic/start', relic)).status).toBe(201)
    await first.stop()

    const second = await startService({ dataDir })
    try {
      expect(await second.services.networks.exists(open[0]?.id ?? '')).toBe(false)
      expect(await second.services.networks.ensure(empty)).toMatchObject({ isolation: 'inhibit_ipv4' })
      expect(await second.services.networks.get(used)).toMatchObject({ id: open[1]?.id, isolation: 'none' })
      expect((await new Client(second.url).get('/health')).body.isolation).toMatchObject({ weaker: 1 })
      expect(second.logged()).toContainEqual(
        expect.objectContaining({ event: 'network.weaker', network: `session_${used}` }),
      )
      // Cleaned up, the session has an isolated one when it next needs one.
      await new Client(second.url).send('DELETE', `/sessions/${used}`)
      expect((await new Client(second.url).get('/health')).body.isolation).toMatchObject({ weaker: 0 })
    } finally {
      await second.destroy()
    }
  })
})
