import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import type { Door, DoorTarget } from '../../../src/managers/door.ts'
import { HealthPoller } from '../../../src/managers/health-poller.ts'

const TARGET: DoorTarget = {
  containerId: 'c'.repeat(64),
  networkId: 'n'.repeat(64),
  address: '10.1.2.3',
  gateway: '10.1.2.1',
  port: 8000,
}
const servers: Server[] = []

afterEach(() => {
  for (const server of servers.splice(0)) server.close()
})

/** A server that answers each connection as `serve` says, a door that leads to it, and what went through. */
async function relic(serve: (socket: Socket) => void) {
  const seen = { dials: [] as DoorTarget[], requests: '', sockets: [] as Socket[] }
  const server = createServer((socket) => {
    seen.sockets.push(socket)
    socket.on('error', () => {})
    socket.on('data', (bytes: Buffer) => {
      seen.requests += bytes.toString('latin1')
      if (seen.requests.endsWith('\r\n\r\n')) serve(socket)
    })
  })
  servers.push(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const door = {
    dial: async (target: DoorTarget) => {
      seen.dials.push(target)
      const socket = connect({ host: '127.0.0.1', port })
      await once(socket, 'connect')
      return socket
    },
  } as unknown as Door
  return { seen, poller: new HealthPoller(door), port }
}

describe('until a relic is healthy', () => {
  it('asks at once, and goes on until it is', async () => {
    const answers = ['503 Not Yet', '503 Not Yet', '200 OK']
    const { seen, poller } = await relic((socket) => {
      seen.requests = ''
      socket.end(`HTTP/1.1 ${answers.shift()}\r\nContent-Length: 0\r\n\r\n`)
    })
    const probes: boolean[] = []
    const healthy = poller.untilHealthy(TARGET, '/health', new AbortController().signal, (probe) =>
      probes.push(probe.healthy),
    )
    expect(seen.dials).toHaveLength(1)
    await healthy
    expect(probes).toEqual([false, false, true])
    expect(seen.dials).toHaveLength(3)
  })
})

describe('a health check', () => {
  it('follows no redirect, wherever it leads', async () => {
    let hits = 0
    const inside = createServer((socket) => {
      hits++
      socket.end('HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n')
    })
    servers.push(inside)
    inside.listen(0, '127.0.0.1')
    await once(inside, 'listening')
    const location = `http://127.0.0.1:${(inside.address() as AddressInfo).port}/`
    for (const status of [301, 302, 303, 307, 308]) {
      const { seen, poller } = await relic((socket) =>
        socket.end(`HTTP/1.1 ${status} Moved\r\nLocation: ${location}\r\nContent-Length: 0\r\n\r\n`),
      )
      expect(await poller.probe(TARGET, '/health')).toMatchObject({
        healthy: false,
        status_code: status,
        error: 'it answered a redirect, and none is followed',
      })
      expect(seen.dials).toEqual([TARGET])
    }
    expect(hits).toBe(0)
    // The listener would have counted one.
    await fetch(location)
    expect(hits).toBe(1)
  })

  it('asks the container by its address, for the path as it is, and brings no header of a caller’s', async () => {
    const { seen, poller } = await relic((socket) => socket.end('HTTP/1.1 204 No Content\r\n\r\n'))
    expect((await poller.probe(TARGET, '/a/../b?c=%0d%0a')).healthy).toBe(true)
    expect(seen.requests.split('\r\n').toSorted()).toEqual(
      [
        'GET /a/../b?c=%0d%0a HTTP/1.1',
        'connection: close',
        'accept: */*',
        'user-agent: container-orchestrator',
        'Host: 10.1.2.3:8000',
        '',
        '',
      ].toSorted(),
    )
  })

  it.each(['/a b', '/a\r\nHost: evil', '/a\nX: y', '/ä\u0100'])('never sends the path %j', async (path) => {
    const { seen, poller } = await relic((socket) => socket.end('HTTP/1.1 200 OK\r\n\r\n'))
    expect((await poller.probe(TARGET, path)).healthy).toBe(false)
    expect(seen.requests).toBe('')
  })

  it('lets a verdict out, and nothing of the answer', async () => {
    const secret = 'SECRET-of-an-inner-service'
    const { poller } = await relic((socket) =>
      socket.end(`HTTP/1.1 500 ${secret}\r\nX-Secret: ${secret}\r\nContent-Length: 26\r\n\r\n${secret}`),
    )
    const probe = await poller.probe(TARGET, '/health')
    expect(probe).toMatchObject({ healthy: false, status_code: 500, error: 'it answered 500' })
    expect(JSON.stringify(probe)).not.toContain('SECRET')
  })

  it('reads no body, however much there is', async () => {
    let sent = 0
    const { seen, poller } = await relic((socket) => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      const more = () => {
        while (!socket.destroyed && socket.write(Buffer.alloc(64 * 1024))) sent += 64 * 1024
      }
      socket.on('drain', more)
      more()
    })
    expect((await poller.probe(TARGET, '/health')).healthy).toBe(true)
    const [socket] = seen.sockets
    await expect.poll(() => socket?.closed).toBe(true)
    // What the kernel took of it before the connection was closed.
    expect(sent / 2 ** 20).toBeLessThan(16)
  })

  it('gives up on a head that is too long, or is none', async () => {
    for (const head of [
      `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(64 * 1024)}\r\n\r\n`,
      `HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(16_000)}\r\n`,
      'SSH-2.0-OpenSSH_9.2\r\n\r\n',
      'HTTP/1.1 200 OK\r\nX: a\u0000b\r\n\r\n',
    ]) {
      const { poller } = await relic((socket) => socket.end(head))
      expect(await poller.probe(TARGET, '/health'), head.slice(0, 20)).toMatchObject({
        healthy: false,
        status_code: null,
      })
    }
  })

  it('ends, whether nothing comes, or a byte now and then, or answers before the answer', async () => {
    const endless = (bytes: string) => (socket: Socket) => {
      const drip = setInterval(() => socket.write(bytes), 50)
      socket.on('close', () => clearInterval(drip))
    }
    const probes = [() => {}, endless('H'), endless('HTTP/1.1 102 Processing\r\n\r\n')].map(async (serve) => {
      const { poller } = await relic(serve)
      // "H" over and over is no head, and needs no waiting for.
      expect(await poller.probe(TARGET, '/health')).toMatchObject({ healthy: false, status_code: null })
    })
    await Promise.all(probes)
  })
})
