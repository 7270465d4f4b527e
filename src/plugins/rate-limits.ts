/** How many calls a key may make in a minute. */
import rateLimit from '@fastify/rate-limit'
import fp from 'fastify-plugin'
import { AppError } from '../errors.ts'

export interface RateLimitOptions {
  /** Of each key that has no limit of its own. */
  requestsPerMinute: number
}

const MINUTE_MS = 60_000
/** Keys that are remembered at once; the one that was used longest ago goes first. */
const REMEMBERED = 10_000

/**
 * Bounds the calls of each key, and of each session token by itself (agents of one service do not keep
 * each other out, nor their service), with `x-ratelimit-*` headers that tell where it stands. Callers
 * without a key are not bounded. Register it behind access.ts.
 */
export const rateLimits = fp<RateLimitOptions>(async (app, { requestsPerMinute }) => {
  await app.register(rateLimit, {
    global: true,
    timeWindow: MINUTE_MS,
    cache: REMEMBERED,
    max: (request) => request.caller.limits.requestsPerMinute ?? requestsPerMinute,
    keyGenerator: ({ caller, ip }) => caller.tokenId ?? caller.keyId ?? ip,
    allowList: (request) => request.caller.keyId === null,
    errorResponseBuilder: (_request, { max, ttl }) =>
      new AppError('rate_limited', `This key or token may make ${max} calls a minute`, {
        retryAfterSeconds: Math.ceil(ttl / 1000),
        hint: 'Wait as long as Retry-After says; follow streams instead of polling.',
      }),
  })
})
