/** What a request may be before its content counts: the size of its head, and the pace of its body. */
import type { IncomingMessage } from 'node:http'
import { finished, PassThrough, type Readable } from 'node:stream'
import fp from 'fastify-plugin'
import { AppError } from '../errors.ts'
import { HEADERS, type HttpLimits, QUERY_PARAMETERS, URL_BYTES } from './http-limits.ts'

const CHECKS_PER_GRACE = 10
const BODYLESS = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE'])

export const requestBounds = fp<{ limits: HttpLimits }>(async (app, { limits }) => {
  app.addHook('onRequest', ({ raw }, _reply, done) => {
    checkHead(raw)
    done()
  })

  const bodies = new WeakMap<IncomingMessage, Readable>()

  app.addHook('preParsing', ({ raw, method }, _reply, payload, done) => {
    // Most bodies come with their head.
    if (raw.complete || BODYLESS.has(method)) return done(null, payload)
    const body = paced(raw, limits)
    bodies.set(raw, body)
    done(null, body)
  })

  app.addHook('onResponse', ({ raw }, _reply, done) => {
    bodies.get(raw)?.destroy()
    // What was answered before its body came may go on sending it; for as long as it does, a connection is taken.
    if (raw.complete === false && !raw.socket.destroyed) {
      setTimeout(() => {
        if (!raw.complete) raw.socket.destroy()
      }, limits.lingerMs).unref()
    }
    done()
  })
})

function checkHead({ rawHeaders, url = '', method }: IncomingMessage): void {
  // A whole URL names a host of its own beside that of the Host header.
  if (!url.startsWith('/') && !(method === 'OPTIONS' && url === '*')) {
    throw new AppError('validation_failed', 'A request is for a path, which begins with "/"')
  }
  // Node would drop what is beyond a count of its own, and leave a request with other headers than it had.
  if (rawHeaders.length > 2 * HEADERS) {
    throw new AppError('headers_too_large', `The request has more than ${HEADERS} headers`)
  }
  if (url.length > URL_BYTES) throw new AppError('validation_failed', 'The URL is longer than 8 KiB')
  if (url.length > QUERY_PARAMETERS && url.split('&', QUERY_PARAMETERS + 1).length > QUERY_PARAMETERS) {
    throw new AppError('validation_failed', `The URL has more than ${QUERY_PARAMETERS} parameters`)
  }
}

/**
 * A body that fails with `request_timeout` where its caller does not keep up the pace. Only time in which
 * the service is ready for more counts: an upload into a slow container is not its caller's fault.
 */
function paced(raw: IncomingMessage, { bodyGraceMs, bodyBytesPerSecond }: HttpLimits): Readable {
  const body = new PassThrough()
  // A body whose request is refused unread has no reader that hears of its error, and such an error would
  // end the service.
  body.on('error', () => {})
  let received = 0
  let waitedMs = 0
  let lastMs = performance.now()
  const check = setInterval(() => {
    const nowMs = performance.now()
    if (!body.writableNeedDrain) waitedMs += nowMs - lastMs
    lastMs = nowMs
    if (waitedMs <= bodyGraceMs + (received / bodyBytesPerSecond) * 1000) return
    body.destroy(new AppError('request_timeout', 'The body of the request did not come in time'))
  }, bodyGraceMs / CHECKS_PER_GRACE)
  body.once('close', () => {
    clearInterval(check)
    raw.unpipe(body)
    // What still comes is dropped, so that the connection can take its next request.
    raw.resume()
  })
  raw.on('data', (chunk: Buffer) => {
    received += chunk.length
  })
  raw.pipe(body)
  finished(raw, { writable: false }, (error) => {
    if (error) body.destroy(error)
  })
  return body
}
