/** Callers who take their time: heads, bodies and answers that never come to an end. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { describe, expect, it, vi } from 'vitest'
import { callerSignal, sendEvents } from '../../../src/routes/sse.ts'
import { startMemoryService } from '../../fixtures/memory-service.ts'
import { RawConnection, rawRequest, sendRaw } from '../../fixtures/raw-http.ts'

const GET = 'GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n'
const POST = 'POST /containers/cleanup/orphans HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n'
const KIB = 1024

/** Writes a byte now and then until the service ends the connection. */
async function drip(connection: RawConnection, byte: string, everyMs: number): Promise<void> {
  const closed = connection.closed()
  let open = true
  void closed.then(() => {
    open = false
  })
  while (open) {
    connection.write(byte)
    await Promise.race([closed, sleep(everyMs)])
  }
}

const untilAnswered = (connection: RawConnection) =>
  vi.waitFor(() => expect(connection.received).toContain('\r\n\r\n'), { timeout: 5_000, interval: 5 })

describe('a head', () => {
  it('that never ends is answered 408 and the connection closed, whoever else calls', async () => {
    await using service = await startMemoryService({ httpLimits: { headersMs: 300 } })
    using slow = await RawConnection.open(service.port)
    slow.write('GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ')
    const dripping = drip(slow, 'a', 20)
    expect((await sendRaw(service.port, rawRequest('GET /livez'))).status).toBe(200)
    await dripping
    expect([slow.answer.status, slow.answer.body.code]).toEqual([408, 'request_timeout'])
    expect(slow.answer.head).toMatch(/connection: close/i)
    expect((await sendRaw(service.port, rawRequest('GET /livez'))).status).toBe(200)
  })

  it('that never begins ends the connection', async () => {
    await using service = await startMemoryService({ httpLimits: { headersMs: 300 } })
    using silent = await RawConnection.open(service.port)
    await silent.closed()
    expect(silent.received === '' || silent.answer.status === 408).toBe(true)
  })

  it('that never ends behind an answer, neither', async () => {
    await using service = await startMemoryService({ httpLimits: { headersMs: 300 } })
    using slow = await RawConnection.open(service.port)
    slow.write(`${GET}GET /livez HTTP/1.1\r\nX-Slow: `)
    await drip(slow, 'a', 20)
    expect(slow.received.match(/HTTP\/1.1 (\d+)/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 408'])
  })

  it('is at most 16 KiB, 100 headers, a URL of 8 KiB with 100 parameters', async () => {
    await using service = await startMemoryService()
    const ask = (line: string, ...headers: string[]) =>
      sendRaw(service.port, rawRequest(line, ['Host: localhost', ...headers]))
    const large = await ask('GET /livez', `X-Large: ${'x'.repeat(17 * KIB)}`)
    expect([large.status, large.body.code]).toEqual([431, 'headers_too_large'])
    expect((await ask('GET /livez', `X-Large: ${'x'.repeat(15 * KIB)}`)).status).toBe(200)
    const many = (count: number) => Array.from({ length: count }, (_, index) => `X-${index}: y`)
    expect((await ask('GET /livez', ...many(98))).status).toBe(200)
    const crowd = await ask('GET /livez', ...many(99))
    expect([crowd.status, crowd.body.code]).toEqual([431, 'headers_too_large'])
    expect((await ask('GET /livez', ...many(1_500))).status).toBe(431)
    expect((await ask(`GET /livez?a=${'x'.repeat(7 * KIB)}`)).status).toBe(200)
    const long = await ask(`GET /livez?a=${'x'.repeat(9 * KIB)}`)
    expect([long.status, long.body.code]).toEqual([400, 'validation_failed'])
    expect((await ask(`GET /livez?${'a=1&'.repeat(99)}`)).status).toBe(200)
    expect((await ask(`GET /livez?${'a=1&'.repeat(100)}`)).status).toBe(400)
  })
})

describe('what is no HTTP', () => {
  it.each([
    ['noise', '\0\x01\x02\r\n\r\n'],
    ['TLS', Buffer.from('16030100c8010000c40303', 'hex')],
    ['an unknown method', 'BREW /pot HTTP/1.1\r\nHost: localhost\r\n\r\n'],
    ['an unknown version', 'GET / HTTP/9.9\r\nHost: localhost\r\n\r\n'],
    ['a line end in a value', 'GET / HTTP/1.1\r\nHost: localhost\r\nX: a\nb\r\n\r\n'],
    ['a head that folds', 'GET / HTTP/1.1\r\nHost: localhost\r\n X: a\r\n\r\n'],
    ['two lengths', `${POST}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`],
    ['a length and chunks', `${POST}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
    ['chunks that are none', `${POST}Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n`],
    ['another encoding of transfer', `${POST}Transfer-Encoding: gzip\r\n\r\n{}`],
    ['a negative length', `${POST}Content-Length: -1\r\n\r\n{}`],
  ])('is a problem where it is %s', async (_name, bytes) => {
    await using service = await startMemoryService()
    const { status, body, head } = await sendRaw(service.port, bytes)
    expect([status, body.code, body.status]).toEqual([400, 'validation_failed', 400])
    expect(head).toMatch(/application\/problem\+json/)
    expect((await sendRaw(service.port, rawRequest('GET /livez'))).status).toBe(200)
  })

  it('does not get into a stream that has begun', async () => {
    await using service = await startMemoryService()
    using reader = await RawConnection.open(service.port)
    reader.write('GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await untilAnswered(reader)
    reader.write('\0\0\0\r\n\r\n')
    await reader.closed()
    expect(reader.received.match(/HTTP\/1.1/g)).toHaveLength(1)
  })
})

describe('a body', () => {
  it('that does not keep up the pace is answered 408, in chunks or not', async () => {
    const httpLimits = { bodyGraceMs: 300, bodyBytesPerSecond: 1_000 }
    await using service = await startMemoryService({ httpLimits })
    for (const [length, byte] of [
      ['Content-Length: 100000', ' '],
      ['Transfer-Encoding: chunked', '1\r\n \r\n'],
    ] as const) {
      using slow = await RawConnection.open(service.port)
      slow.write(`${POST}${length}\r\n\r\n`)
      await drip(slow, byte, 20)
      expect([slow.answer.status, slow.answer.body.code], length).toEqual([408, 'request_timeout'])
    }
  })

  it('that takes its time and keeps up the pace is taken', async () => {
    const httpLimits = { bodyGraceMs: 150, bodyBytesPerSecond: 100 }
    await using service = await startMemoryService({ httpLimits })
    using slow = await RawConnection.open(service.port)
    const body = `{"dry_run":${' '.repeat(500)}true}`
    slow.write(`${POST}Connection: close\r\nContent-Length: ${body.length}\r\n\r\n`)
    for (const part of body.match(/.{1,50}/g) ?? []) {
      slow.write(part)
      await sleep(40)
    }
    await slow.closed()
    expect(slow.answer.status).toBe(200)
  })

  it('counts against its caller only while the service is ready for more', async () => {
    const httpLimits = { bodyGraceMs: 100, bodyBytesPerSecond: 1_000_000 }
    let arrived = 0
    const slowlyRead = (app: FastifyInstance) =>
      void app.register(async (inner) => {
        inner.addContentTypeParser('application/octet-stream', (_request, payload, done) => done(null, payload))
        inner.post('/slow', { config: { access: 'public' } }, async (request) => {
          await sleep(600)
          for await (const chunk of request.body as AsyncIterable<Buffer>) arrived += chunk.length
          return { arrived }
        })
      })
    await using service = await startMemoryService({ httpLimits }, slowlyRead)
    // More than the buffers on the way hold, so that the body waits for its reader.
    const content = Buffer.alloc(16 * KIB * KIB)
    const answer = await fetch(`${service.url}/slow`, {
      method: 'POST',
      headers: { 'content-type': 'application/octet-stream' },
      body: content,
    })
    expect(answer.status).toBe(200)
    expect(arrived).toBe(content.length)
  })

  it('that nobody asked for does not keep its connection', async () => {
    await using service = await startMemoryService({ httpLimits: { lingerMs: 100 } })
    for (const line of ['GET /livez', 'POST /nothing/here', 'DELETE /nothing/here']) {
      using slow = await RawConnection.open(service.port)
      slow.write(`${line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n`)
      await drip(slow, ' ', 20)
      expect([200, 404], line).toContain(slow.answer.status)
    }
  })

  it.each([
    ['of another type', 'Content-Type: text/plain\r\nContent-Length: 100'],
    ['without a type', 'Content-Length: 100'],
    ['with an encoding', 'Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 100'],
    ['too large', 'Content-Type: application/json\r\nContent-Length: 10000000'],
  ])('that was refused before it came (%s) harms nobody when it never comes', async (_name, headers) => {
    const broken: unknown[] = []
    const note = (error: unknown) => broken.push(error)
    process.on('uncaughtExceptionMonitor', note)
    try {
      await using service = await startMemoryService({ httpLimits: { bodyGraceMs: 200, lingerMs: 50 } })
      for (const goesAway of [true, false]) {
        using slow = await RawConnection.open(service.port)
        slow.write(`POST /containers/cleanup/orphans HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n\r\n{`)
        await untilAnswered(slow)
        expect([400, 413]).toContain(slow.answer.status)
        if (goesAway) slow.socket.destroy()
        await sleep(400)
      }
      expect((await sendRaw(service.port, rawRequest('GET /livez'))).status).toBe(200)
    } finally {
      process.off('uncaughtExceptionMonitor', note)
    }
    expect(broken).toEqual([])
  })

  it('that is refused unread ends with its answer, and its service goes on', async () => {
    await using service = await startMemoryService({ httpLimits: { bodyGraceMs: 100, lingerMs: 50 } })
    const uncaught = vi.fn()
    // What nobody catches would end the service.
    process.on('uncaughtException', uncaught)
    try {
      for (const [head, part, isWhole] of [
        ['Content-Type: text/plain\r\nContent-Length: 5\r\n', 'whole', true],
        ['Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n', '5\r\nwhole\r\n0\r\n\r\n', true],
        ['Content-Type: text/plain\r\nContent-Length: 5\r\n', 'pa', false],
        ['Content-Type: application/json\r\nContent-Length: 5000000\r\n', 'pa', false],
      ] as const) {
        using slow = await RawConnection.open(service.port)
        slow.write(`POST /containers/cleanup/orphans HTTP/1.1\r\nHost: localhost\r\n${head}\r\n`)
        await untilAnswered(slow)
        slow.write(part)
        await sleep(300)
        expect([400, 413, 415], head).toContain(slow.answer.status)
        if (isWhole) {
          slow.received = ''
          slow.write(GET)
          await untilAnswered(slow)
          expect(slow.answer.status, head).toBe(200)
        }
      }
    } finally {
      process.off('uncaughtException', uncaught)
    }
    expect(uncaught).not.toHaveBeenCalled()
  })

  it('leaves nothing behind where its caller goes away', async () => {
    await using service = await startMemoryService()
    const slow = await RawConnection.open(service.port)
    slow.write(`${POST}Content-Length: 1000\r\n\r\n{`)
    await sleep(50)
    slow.socket.destroy()
    expect((await sendRaw(service.port, rawRequest('GET /livez'))).status).toBe(200)
  })
})

describe('connections', () => {
  it('that wait make room for new ones, the longest waiting first', async () => {
    await using service = await startMemoryService({ httpLimits: { maxConnections: 20 } })
    const held: RawConnection[] = []
    // Those who only connect, those whose head never ends, and those who have had an answer.
    for (const bytes of ['', 'GET / HTTP/1.1\r\nX-A: ', GET])
      for (let count = 0; count < 10; count++) {
        const connection = await RawConnection.open(service.port)
        connection.write(bytes)
        held.push(connection)
      }
    expect((await sendRaw(service.port, rawRequest('GET /livez'))).status).toBe(200)
    await Promise.all(held.slice(0, 10).map((connection) => connection.closed()))
    expect(held.at(-1)?.socket.closed).toBe(false)
    for (const connection of held) connection.socket.destroy()
  })

  it('beyond their number are told so where all are at work, and are taken when one ends', async () => {
    await using service = await startMemoryService({ httpLimits: { maxConnections: 5 } })
    const streams = await Promise.all(Array.from({ length: 5 }, () => RawConnection.open(service.port)))
    for (const stream of streams) stream.write('GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await Promise.all(streams.map(untilAnswered))
    using beyond = await RawConnection.open(service.port)
    await beyond.closed()
    expect([beyond.answer.status, beyond.answer.body.code]).toEqual([503, 'overloaded'])
    expect(beyond.answer.head).toMatch(/retry-after: 1/)
    expect(streams.every(({ socket }) => !socket.closed)).toBe(true)
    streams[0]?.socket.destroy()
    await vi.waitFor(async () => expect((await sendRaw(service.port, rawRequest('GET /livez'))).status).toBe(200))
    for (const stream of streams) stream.socket.destroy()
  })

  it('are not ended while they wait for an answer, and are when they wait for nothing', async () => {
    const answersLate = (app: FastifyInstance) =>
      void app.get('/late', { config: { access: 'public' } }, async () => {
        await sleep(500)
        return { late: true }
      })
    const httpLimits = { stalledReaderMs: 100, keepAliveMs: 200 }
    await using service = await startMemoryService({ httpLimits }, answersLate)
    using waiting = await RawConnection.open(service.port)
    waiting.write('GET /late HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await waiting.closed()
    expect(waiting.answer.body).toEqual({ late: true })
  })
})

describe('streams', () => {
  it('of one caller are bounded, and free when they end', async () => {
    await using service = await startMemoryService({ httpLimits: { maxStreams: 3 } })
    const open = async () => {
      const stream = await RawConnection.open(service.port)
      stream.write('GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n')
      await untilAnswered(stream)
      return stream
    }
    const streams = [await open(), await open(), await open()]
    for (const path of ['/events', '/containers/stats/x?follow=true', '/containers/tool/x/logs?follow=true']) {
      const { status, body, head } = await sendRaw(service.port, rawRequest(`GET ${path}`))
      expect([status, body.code], path).toEqual([429, 'quota_exceeded'])
      expect(head).toMatch(/retry-after/i)
    }
    expect((await sendRaw(service.port, rawRequest('GET /sessions'))).status).toBe(200)
    streams[0]?.socket.destroy()
    const again = await vi.waitFor(async () => {
      const stream = await open()
      expect(stream.answer.status).toBe(200)
      return stream
    })
    for (const stream of [...streams, again]) stream.socket.destroy()
  })

  it('whose reader takes nothing are ended, without being held in memory meanwhile', async () => {
    const flood = { bytes: 0, ended: false }
    const DATA = 'x'.repeat(64 * KIB)
    const floods = (app: FastifyInstance) =>
      void app.get('/flood', { config: { access: 'public' } }, (_request, reply) => {
        const signal = callerSignal(reply, new AbortController().signal)
        async function* events() {
          try {
            while (!signal.aborted) {
              flood.bytes += DATA.length
              yield { event: 'stdout', data: DATA }
              await sleep(0)
            }
          } finally {
            flood.ended = true
          }
        }
        return sendEvents(reply, events())
      })
    await using service = await startMemoryService({ httpLimits: { stalledReaderMs: 1_000 } }, floods)
    using reader = await RawConnection.open(service.port)
    reader.socket.pause()
    reader.write('GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n')
    // What the kernel's buffers of both sides take is the most that is ever made of it.
    const full = await vi.waitFor(
      async () => {
        const before = flood.bytes
        await sleep(100)
        expect(before).toBeGreaterThan(0)
        expect(flood.bytes).toBe(before)
        return before
      },
      { timeout: 5_000 },
    )
    expect(full / KIB / KIB).toBeLessThan(32)
    await vi.waitFor(() => expect(flood.ended).toBe(true), { timeout: 5_000 })
    expect(flood.bytes).toBe(full)
  })

  it('whose reader is slow, and reads, go on', async () => {
    const floods = (app: FastifyInstance) =>
      void app.get('/flood', { config: { access: 'public' } }, (_request, reply) => {
        const signal = callerSignal(reply, new AbortController().signal)
        async function* events() {
          while (!signal.aborted) {
            yield { event: 'stdout', data: 'x'.repeat(256 * KIB) }
            await sleep(0)
          }
        }
        return sendEvents(reply, events())
      })
    await using service = await startMemoryService({ httpLimits: { stalledReaderMs: 600 } }, floods)
    using reader = await RawConnection.open(service.port)
    let read = 0
    reader.socket.removeAllListeners('data')
    reader.socket.on('data', (bytes: Buffer) => {
      read += bytes.length
    })
    reader.write('GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n')
    const marks: number[] = []
    for (let turn = 0; turn < 10; turn++) {
      reader.socket.pause()
      await sleep(80)
      reader.socket.resume()
      await sleep(40)
      marks.push(read)
    }
    expect(reader.socket.closed).toBe(false)
    expect(marks.at(-1)).toBeGreaterThan(marks[5] ?? 0)
  })
})

describe('a body that nobody reads', () => {
  const head = 'POST /no/such/route HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n'

  it.each([
    ['breaks off', async (connection: RawConnection) => void connection.socket.destroy()],
    ['comes too slowly', async (connection: RawConnection) => drip(connection, '1\r\na\r\n', 20)],
  ])('and that %s is no fault of the service', async (_name, end) => {
    await using service = await startMemoryService({ httpLimits: { bodyGraceMs: 100, lingerMs: 300 } })
    const faults: unknown[] = []
    const note = (error: unknown) => faults.push(error)
    process.on('uncaughtExceptionMonitor', note)
    try {
      using connection = await RawConnection.open(service.port)
      connection.write(head)
      await untilAnswered(connection)
      expect(connection.answer.status).toBe(404)
      await end(connection)
      await sleep(500)
      expect(faults).toEqual([])
    } finally {
      process.off('uncaughtExceptionMonitor', note)
    }
  })
})
