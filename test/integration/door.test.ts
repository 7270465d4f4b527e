import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { Door, type DoorTarget } from '../../src/managers/door.ts'
import { HealthPoller } from '../../src/managers/health-poller.ts'
import { NamespaceEntry } from '../../src/managers/namespace-entry.ts'
import { Toolbox } from '../../src/managers/toolbox.ts'
import { Client } from '../fixtures/client.ts'
import { DEBIAN, HTTPD } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

let service: TestService
let target: DoorTarget
/** Ways into the relic's network, as the service has them. */
let entry: NamespaceEntry
const session_id = newSession('door')
/** Connected at once. */
const CALLERS = 50

beforeAll(async () => {
  service = await startService()
  const client = new Client(service.url)
  const { body } = await client.post('/containers/relic/start', { relic_name: 'web', session_id, image: HTTPD })
  const state = await service.engine.containers.inspect(body.container_id)
  const endpoint = state?.networks[0]
  target = {
    containerId: body.container_id,
    networkId: endpoint?.networkId ?? '',
    address: endpoint?.address ?? '',
    gateway: endpoint?.gateway ?? '',
    port: 8000,
    namespace: state?.networkNamespace,
  }
  const toolbox = new Toolbox({
    engine: service.engine,
    docker: service.services.docker,
    instance: service.instance,
    binary: undefined,
  })
  entry = new NamespaceEntry({ toolbox, log: pino({ level: 'silent' }) })
})
afterAll(() => service.destroy())

const WAYS = [
  ['a process of this host in its network', () => new Door(service.engine, entry)],
  ['an exec of the toolbox', () => new Door(service.engine)],
] as const

/** Sends back what it is sent; ends at the word "end". */
const ECHO = `
import socket, threading
def serve(s):
    with s:
        while (part := s.recv(65536)) and part != b'end': s.sendall(part)
with socket.create_server(('', 8000), backlog=128) as server:
    while True: threading.Thread(target=serve, args=(server.accept()[0],)).start()`

async function open(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  return socket
}

/** What comes first, as many bytes or up to the end. */
async function take(socket: Socket, bytes = Number.POSITIVE_INFINITY): Promise<string> {
  let text = ''
  for await (const part of socket.iterator({ destroyOnReturn: false })) {
    text += String(part)
    if (text.length >= bytes) break
  }
  return text
}

async function exchange(port: number, words: string): Promise<string> {
  const socket = await open(port)
  socket.write(words)
  const answer = await take(socket, words.length)
  socket.destroy()
  return answer
}

/** Processes that carry a connection to an address: of this host, and of containers, which it has, too. */
async function carriersTo(address: string): Promise<number> {
  const entries = await readdir('/proc')
  const commands = entries.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => ''))
  const carrier = new RegExp(`busybox\0nc\0-w\0.*\0${address}\0`)
  return (await Promise.all(commands)).filter((command) => carrier.test(command)).length
}

describe('the door into a container', () => {
  it.each(WAYS)('carries bytes both ways through %s', async (_, door) => {
    const connection = await door().dial(target, AbortSignal.timeout(10_000))
    connection.write('GET /health HTTP/1.0\r\n\r\n')
    let answer = ''
    for await (const part of connection) answer += String(part)
    expect(answer).toMatch(/^HTTP\/1\.[01] 200/)
    expect(answer.trimEnd().endsWith('ok')).toBe(true)
  })

  it.each(WAYS)('tells health through %s, of a port that is served and of one that is not', async (_, door) => {
    const poller = new HealthPoller(door())
    expect(await poller.probe(target, '/health')).toMatchObject({ healthy: true, status_code: 200, error: null })
    expect(await poller.probe(target, '/absent')).toMatchObject({ healthy: false, status_code: 404 })
    expect(await poller.probe({ ...target, port: 9 }, '/health')).toMatchObject({ healthy: false, status_code: null })
  })

  it.each(WAYS)('leaves no process behind that was %s', async (_, door) => {
    const poller = new HealthPoller(door())
    for (let probe = 0; probe < 5; probe++) await poller.probe(target, '/health')
    await expect.poll(() => carriersTo(target.address), { timeout: 15_000, interval: 500 }).toBe(0)
  })

  it('goes by an exec where the network cannot be entered from here', async () => {
    const entered = vi.spyOn(entry, 'run')
    const exec = vi.spyOn(service.engine.containers, 'exec')
    const poller = new HealthPoller(new Door(service.engine, entry))
    expect(await poller.probe({ ...target, namespace: '/nonexistent' }, '/health')).toMatchObject({ healthy: true })
    expect(exec).toHaveBeenCalledTimes(1)
    expect(await poller.probe(target, '/health')).toMatchObject({ healthy: true })
    expect(exec).toHaveBeenCalledTimes(1)
    expect(entered).toHaveBeenCalledTimes(2)
    vi.restoreAllMocks()
  })

  it.each([
    "nsenter: can't reassociate to namespace 'net': Operation not permitted",
    "nsenter: can't reassociate to namespace 'net': Invalid argument",
    'nsenter: applet not found',
  ])('goes by execs, and tries once only whether it may enter networks, after %j', async (words) => {
    const folder = await mkdtemp(join(tmpdir(), 'co-door-'))
    const refusing = join(folder, 'busybox')
    await writeFile(refusing, `#!/bin/sh\necho "${words}" >&2\nexit 1\n`, { mode: 0o755 })
    const log = pino({ level: 'silent' })
    const told = vi.spyOn(log, 'info')
    const toolbox = { programOnHost: async () => refusing }
    const poller = new HealthPoller(new Door(service.engine, new NamespaceEntry({ toolbox, log })))
    expect(await poller.probe(target, '/health')).toMatchObject({ healthy: true })
    expect(await poller.probe(target, '/health')).toMatchObject({ healthy: true })
    expect(told).toHaveBeenCalledTimes(1)
    await rm(folder, { recursive: true })
  })

  it('goes by an exec where this host cannot start a process, or has too many', async () => {
    const log = pino({ level: 'silent' })
    const absent = new NamespaceEntry({ toolbox: { programOnHost: async () => '/nonexistent/busybox' }, log })
    const probing = new HealthPoller(new Door(service.engine, absent)).probe(target, '/health')
    expect(await probing).toMatchObject({ healthy: true })
    const silent = (busybox: string) => [busybox, 'sleep', '60']
    const over = new AbortController()
    const asked = Array.from({ length: 300 }, () => entry.run(target.namespace ?? '', silent, over.signal))
    const carried = (await Promise.all(asked)).filter((stream) => stream !== undefined)
    expect(carried).toHaveLength(256)
    over.abort()
    const again = async () =>
      (await entry.run(target.namespace ?? '', silent, AbortSignal.timeout(5_000))) !== undefined
    await expect.poll(again).toBe(true)
  })

  it('leaves no process of this host behind that waits for a server that answers nothing', async () => {
    const mute = 'import socket, time; s = socket.socket(); s.bind(("", 8000)); s.listen(); time.sleep(600)'
    const { body } = await new Client(service.url).post('/containers/relic/start', {
      ...{ relic_name: `silent-${randomUUID().slice(0, 4)}`, session_id, image: DEBIAN },
      ...{ command: ['python3', '-c', mute], health_check_endpoint: null },
    })
    const state = await service.engine.containers.inspect(body.container_id)
    const address = state?.networks[0]?.address ?? ''
    const silent = { ...target, containerId: body.container_id, address, namespace: state?.networkNamespace }
    const connection = await new Door(service.engine, entry).dial(silent, AbortSignal.timeout(10_000), {
      patience: true,
    })
    connection.on('error', () => {})
    connection.write('GET / HTTP/1.0\r\n\r\n')
    await expect.poll(() => carriersTo(address), { timeout: 10_000 }).toBeGreaterThan(0)
    connection.destroy()
    await expect.poll(() => carriersTo(address), { timeout: 20_000, interval: 500 }).toBe(0)
  })

  it('kills nothing by the id of a process that has ended: another may have it by then', async () => {
    const kill = vi.spyOn(process, 'kill')
    const ownId = (busybox: string) => [busybox, 'sh', '-c', 'echo $$']
    const stream = await entry.run(target.namespace ?? '', ownId, AbortSignal.timeout(10_000))
    if (stream === undefined) throw new Error('the network was not entered')
    await once(stream, 'readable')
    const pid = Number(String(stream.read()))
    await expect.poll(() => existsSync(`/proc/${pid}`)).toBe(false)
    stream.destroy()
    expect(kill).not.toHaveBeenCalled()
    vi.restoreAllMocks()
  })

  it('tells who writes to a server that has gone', async () => {
    const connection = await new Door(service.engine, entry).dial(target, AbortSignal.timeout(10_000))
    connection.write('GET /health HTTP/1.0\r\n\r\n')
    connection.resume()
    await once(connection, 'close')
    expect(connection.writable).toBe(false)
  })

  it(`carries ${CALLERS} connections to a published port at once, and leaves no process behind for any`, async () => {
    const client = new Client(service.url)
    const { body } = await client.post('/containers/relic/start', {
      relic_name: 'echo',
      session_id,
      image: DEBIAN,
      command: ['python3', '-c', ECHO],
      port: 8000,
      health_check_endpoint: null,
      ports: { '8000': 0 },
    })
    const port = Number(body.ports['8000'])
    await vi.waitUntil(async () => (await exchange(port, 'first')) === 'first', { timeout: 20_000, interval: 200 })
    const all = await Promise.all(Array.from({ length: CALLERS }, () => open(port)))
    // Each is there at once with all others: nobody has been closed when the last one answers.
    const told = await Promise.all(
      all.map(async (socket, index) => {
        const words = `caller ${index} `.repeat(2_000)
        socket.write(words)
        return (await take(socket, words.length)) === words
      }),
    )
    expect(told).toEqual(all.map(() => true))
    const { address = '' } = (await service.engine.containers.inspect(body.container_id))?.networks[0] ?? {}
    expect(await carriersTo(address)).toBe(CALLERS)
    // One half ends as a caller should, the other as callers do.
    for (const [index, socket] of all.entries()) index % 2 === 0 ? socket.end() : socket.destroy()
    await expect.poll(() => carriersTo(address), { timeout: 20_000, interval: 500 }).toBe(0)
    await expect.poll(() => service.services.relics.isUsedIn(session_id), { timeout: 10_000 }).toBe(false)
    // One that the server ends is ended for its caller.
    const ended = await open(port)
    ended.write('end')
    expect(await take(ended)).toBe('')
    await expect.poll(() => carriersTo(address), { timeout: 20_000, interval: 500 }).toBe(0)
  })

  it('gives up on a server that accepts and never answers', async () => {
    const client = new Client(service.url)
    const mute = 'import socket, time; s = socket.socket(); s.bind(("", 8000)); s.listen(); time.sleep(600)'
    const answer = await client.post('/containers/relic/start', {
      relic_name: `mute-${randomUUID().slice(0, 4)}`,
      session_id,
      image: DEBIAN,
      command: ['python3', '-c', mute],
      health_check_timeout_seconds: 3,
    })
    expect(answer.body.detail).toContain('did not answer within 2 seconds')
    expect(answer.status).toBe(504)
  })
})
