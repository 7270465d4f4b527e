/** How many streams one caller has open: each holds a connection for as long as its caller likes. */
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { AppError } from '../errors.ts'
import type { HttpLimits } from './http-limits.ts'

export interface StreamBoundsOptions {
  limits: HttpLimits
  /** Whom a stream counts for: by default the address that it goes to. */
  callerOf?: (request: FastifyRequest) => string
}

const RETRY_AFTER_SECONDS = 5
/** Routes that answer a stream whatever the request says. */
const ALWAYS = new Set(['/events'])

export const streamBounds = fp<StreamBoundsOptions>(async (app, { limits, callerOf = ({ ip }) => ip }) => {
  const open = new Map<string, number>()
  // Before the handler: a command that is refused its stream is not run either.
  app.addHook('preHandler', (request, reply, done) => {
    if (!asksForStream(request)) return done()
    const caller = callerOf(request)
    const count = open.get(caller) ?? 0
    if (count >= limits.maxStreams) {
      throw new AppError('quota_exceeded', `This caller has ${count} streams open, as many as it may`, {
        hint: 'Close one; the operator sets their number with CO_MAX_STREAMS.',
        retryAfterSeconds: RETRY_AFTER_SECONDS,
      })
    }
    open.set(caller, count + 1)
    reply.raw.once('close', () => {
      const left = (open.get(caller) ?? 1) - 1
      if (left === 0) open.delete(caller)
      else open.set(caller, left)
    })
    done()
  })
})

function asksForStream({ query, body, headers, routeOptions, upgradedSocket }: FastifyRequest): boolean {
  const follows = (query as { follow?: unknown } | undefined)?.follow === true
  const streams = (body as { stream?: unknown } | null | undefined)?.stream === true
  return (
    follows ||
    streams ||
    upgradedSocket !== undefined ||
    (headers.accept ?? '').includes('text/event-stream') ||
    ALWAYS.has(routeOptions.url ?? '')
  )
}
