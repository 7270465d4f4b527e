import type { FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { KeyedCall } from '../managers/idempotency.ts'

/** Headers of the calls that make something. */
export const IdempotencyHeaders = z.looseObject({
  'idempotency-key': z
    .string()
    .optional()
    .describe('The same key and body give the same resource; with another body: 422 idempotency_key_reused'),
})

/** A request as a call that is made once for its key. `name` tells apart what the body does not. */
export function keyedCall(request: FastifyRequest, name: string): KeyedCall {
  const key = request.headers['idempotency-key']
  const { owner, session } = request.caller
  // A token's keys are its session's: in another one, the same key is another.
  const whose = owner !== null && session !== undefined ? `${owner} ${session}` : owner
  return { owner: whose, key: typeof key === 'string' ? key : undefined, name, body: request.body }
}
