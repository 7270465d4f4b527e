import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyReply, FastifyRequest } from 'fastify'

export interface ServerSentEvent {
  id?: number
  event: string
  data: unknown
}

const HEARTBEAT_MS = 15_000

/** Sends events as they come, and a comment every 15 seconds. The source ends with the signal it was given. */
export function sendEvents(reply: FastifyReply, events: AsyncIterable<ServerSentEvent>): FastifyReply {
  return reply
    .header('content-type', 'text/event-stream; charset=utf-8')
    .header('cache-control', 'no-store')
    .header('x-accel-buffering', 'no')
    .send(Readable.from(format(events)))
}

/** Aborts when the caller goes away or the service stops. */
export function callerSignal(reply: FastifyReply, closing: AbortSignal): AbortSignal {
  const gone = new AbortController()
  reply.raw.once('close', () => gone.abort())
  return AbortSignal.any([gone.signal, closing])
}

export function wantsEvents(request: FastifyRequest, follow: boolean | undefined): boolean {
  return follow === true || (request.headers.accept ?? '').includes('text/event-stream')
}

/** `Last-Event-ID` as a number; undefined where there is none that this service could have sent. */
export function lastEventId(request: FastifyRequest): number | undefined {
  const header = request.headers['last-event-id']
  return typeof header === 'string' && /^\d{1,15}$/.test(header) ? Number(header) : undefined
}

async function* format(events: AsyncIterable<ServerSentEvent>): AsyncGenerator<string> {
  const iterator = events[Symbol.asyncIterator]()
  let next = iterator.next()
  try {
    // Tells the caller at once that the stream is open.
    yield ': open\n\n'
    for (;;) {
      const beat = new AbortController()
      const result = await Promise.race([
        next,
        sleep(HEARTBEAT_MS, undefined, { signal: beat.signal, ref: false }).catch(() => undefined),
      ])
      beat.abort()
      if (result === undefined) {
        yield ': keep-alive\n\n'
        continue
      }
      if (result.done) return
      const { id, event, data } = result.value
      yield `${id === undefined ? '' : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`
      next = iterator.next()
    }
  } finally {
    await iterator.return?.()
  }
}
