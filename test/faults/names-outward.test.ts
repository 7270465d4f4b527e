/**
 * An engine whose host has its resolver on a loopback address, where engines before 26 pass the names that
 * containers ask for on even from a network without a way out, and with them what is written in a name
 * (CVE-2024-29018). The resolver is a decoy that counts; nothing has a way out of the engine's namespaces.
 */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { encodeLabels } from '../../src/labels.ts'
import { type Profile, SERVICE, STRICT, WORKSPACE } from '../../src/policy/profiles.ts'
import { Client } from '../fixtures/client.ts'
import { leastContainer } from '../fixtures/container-spec.ts'
import { DEBIAN, TOOLBOX } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'
import { report } from '../support/report.ts'
import { DecoyResolver } from './decoy-resolver.ts'
import { PrivateDaemon } from './private-daemon.ts'

/** On the loopback of the engine's host. */
const LOOPBACK = '127.0.0.54'
/** Of the public internet for the proxy, and here of the host of the engine alone. Containers on the default bridge ask here. */
const PUBLIC = '1.2.3.4'
const RESOLVERS = [LOOPBACK, PUBLIC]
/** How long a query may take on its way. */
const LATE_MS = 1_500

/**
 * Asks for names beneath a domain and for one without a dot in every way there is: by the C library, and by
 * queries of its own, by UDP and TCP, of many types, to each resolver that it finds and might find. Prints how many.
 */
const ASK = `
import os, socket, struct, sys, threading
domain = sys.argv[1]
resolvers = {line.split()[1] for line in open('/etc/resolv.conf') if line.startswith('nameserver')}
resolvers |= {'127.0.0.11', '127.0.0.1', '${LOOPBACK}', '${PUBLIC}'}
def query(name, type):
    labels = b''.join(bytes([len(l)]) + l.encode() for l in name.split('.'))
    return struct.pack('>6H', type, 0x0100, 1, 0, 0, 0) + labels + b'\\0' + struct.pack('>2H', type, 1)
def library(name):
    try: socket.getaddrinfo(name, 443)
    except OSError: pass
def udp(to, name, type):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(4)
        try:
            s.sendto(query(name, type), (to, 53))
            s.recv(512)
        except OSError: pass
def tcp(to, name, type):
    try:
        with socket.create_connection((to, 53), 2) as s:
            s.settimeout(4)
            body = query(name, type)
            s.sendall(struct.pack('>H', len(body)) + body)
            s.recv(512)
    except OSError: pass
work = [(library, (f'library.{domain}',)), (library, (f'UPPER.{domain}.',)), (library, ('dotless' + domain.replace('.', ''),))]
for to in resolvers:
    # A, NS, CNAME, NULL, PTR, MX, TXT, AAAA, SRV, ANY
    for type in (1, 2, 5, 10, 12, 15, 16, 28, 33, 255):
        work += [(udp, (to, f'udp{type}.{domain}', type)), (udp, (to, f'udp{type}' + domain.replace('.', ''), type))]
    work += [(tcp, (to, f'tcp{type}.{domain}', type)) for type in (1, 16, 28)]
    work += [(udp, (to, '53.2.0.192.in-addr.arpa', 12))]
threads = [threading.Thread(target=how, args=args) for how, args in work]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(work))`

const LISTED = 'listed.test'
const ONLINE: Profile = {
  ...STRICT,
  name: 'online',
  networks: new Set(['none', 'egress']),
  egress: { hosts: [LISTED], ports: [80], privateRanges: [] },
}

/** A server at that address, on the host of the engine. */
const WEB = `
const server = require('node:http').createServer((_, answer) => answer.end('reached'))
server.listen(80, '${PUBLIC}', () => console.log('listens'))`

/** Prints a line for each of the hosts: its name, the status of the proxy's answer, and the last word of it. */
const FETCH = `
import os, socket, sys
host, port = os.environ['http_proxy'].removeprefix('http://').split(':')
for target in sys.argv[1:]:
    with socket.create_connection((host, int(port)), 5) as s:
        s.settimeout(20)
        s.sendall(f'GET http://{target}/ HTTP/1.0\\r\\n\\r\\n'.encode())
        answer = b''
        while part := s.recv(4096): answer += part
        status = answer.split()[1].decode()
        print(target, status, answer.split()[-1].decode() if status == '200' else '')`

let daemon: PrivateDaemon
let resolver: DecoyResolver
let service: TestService
let client: Client

beforeAll(async () => {
  daemon = await PrivateDaemon.create({
    images: [TOOLBOX, DEBIAN, 'container-orchestrator/egress:1'],
    resolvers: RESOLVERS,
  })
  await once(daemon.spawn('ip', ['address', 'add', `${PUBLIC}/32`, 'dev', 'lo']), 'exit')
  resolver = await DecoyResolver.listen(daemon, RESOLVERS, { [LISTED]: PUBLIC })
  service = await startService({
    environment: { DOCKER_HOST: daemon.host },
    config: { profiles: new Map([STRICT, SERVICE, WORKSPACE, ONLINE].map((profile) => [profile.name, profile])) },
  })
  client = new Client(service.url)
})
beforeEach(() => resolver.forget())
afterAll(async () => {
  await service?.destroy()
  resolver?.close()
  await daemon?.dispose()
})

async function namesAsked(): Promise<readonly string[]> {
  await sleep(LATE_MS)
  return resolver.asked
}

async function askAs(network_mode: 'none' | 'session', domain: string): Promise<number> {
  const run = await client.run({
    ...{ session_id: newSession('asks'), image: DEBIAN, network_mode, command: ['python3', '-c', ASK, domain] },
    resource_limits: { pids_limit: 256 },
  })
  expect(run).toMatchObject({ status: 'completed', stderr: '' })
  return Number(run.stdout)
}

describe('names that are asked for', () => {
  it.each(['session', 'none'] as const)('by a tool with the network "%s" do not leave', async (mode) => {
    const queries = await askAs(mode, `${mode}.carried.test`)
    expect(queries).toBeGreaterThan(70)
    expect(await namesAsked()).toEqual([])
    await report(`Names asked for by a tool, network "${mode}" (CVE-2024-29018)`, { queries, 'asked outside': 0 })
  })

  it('by a worker on the internal bridge do not leave', async () => {
    const worker_id = newSession('asks')
    expect((await client.post('/containers/worker/start', { worker_id, image: DEBIAN })).status).toBe(201)
    const { body } = await client.post(`/containers/worker/${worker_id}/exec`, {
      command: ['python3', '-c', ASK, 'internal.carried.test'],
    })
    expect(Number(body.stdout)).toBeGreaterThan(70)
    expect(await namesAsked()).toEqual([])
  })

  it('would leave where the container kept the resolver of its host', async () => {
    const session = newSession('control')
    const network = await service.services.networks.ensure(session)
    const id = await service.engine.containers.create(
      leastContainer({
        ...{ name: session, imageId: (await service.engine.images.inspect(DEBIAN))?.id ?? '' },
        labels: encodeLabels({ instance: service.instance, kind: 'tool', id: session, session, nonce: session }),
        command: ['python3', '-c', ASK, 'control.carried.test'],
        resources: { memoryBytes: 128 * 1024 ** 2, cpus: 1, pids: 256, openFiles: { soft: 1024, hard: 1024 } },
        network: { mode: 'network', networkId: network.id, aliases: [], resolvesOutside: true },
      }),
    )
    await service.engine.containers.start(id)
    await service.engine.containers.wait(id, AbortSignal.timeout(60_000))
    const asked = await namesAsked()
    expect(asked).toContain('library.control.carried.test')
    expect(asked).toContain('udp16.control.carried.test')
    expect(asked).toContain('tcp1.control.carried.test')
  })
})

describe('a profile with egress, without a network that egress_network names', () => {
  it('goes out by the default bridge, and asks for names of its list alone', async () => {
    const web = daemon.spawn(process.execPath, ['-e', WEB])
    await once(web.stdout, 'data')
    const session_id = newSession('online')
    const hosts = [LISTED, `beneath.${LISTED}`, 'carried.other.test', 'dotless', PUBLIC]
    const run = await client.run({
      ...{ session_id, image: DEBIAN, profile: 'online', network_mode: 'egress' },
      command: ['python3', '-c', FETCH, ...hosts],
    })
    expect(run).toMatchObject({ status: 'completed', stderr: '' })
    expect(run.stdout).toBe([`${LISTED} 200 reached\n`, ...hosts.slice(1).map((host) => `${host} 403 \n`)].join(''))
    const asked = await namesAsked()
    expect(asked.length).toBeGreaterThan(0)
    expect(new Set(asked)).toEqual(new Set([LISTED]))
    const [proxy] = (await service.services.docker.list({ session: session_id })).filter(
      ({ owner }) => owner.kind === 'egress',
    )
    const networks = (await service.engine.containers.inspect(proxy?.id ?? ''))?.networks.map(
      ({ networkName }) => networkName,
    )
    expect(networks?.sort()).toEqual(['bridge', `session_${session_id}`])
    web.kill('SIGKILL')
  })
})
