import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { SessionTokenDesk } from '../access/session-tokens.ts'
import { SessionId } from '../domain/common.ts'
import { problems } from '../domain/problem.ts'
import { MakeSessionToken, SessionToken } from '../domain/session-token.ts'
import { AppError } from '../errors.ts'
import type { SessionManager } from '../managers/session-manager.ts'

export interface SessionTokenRoutesOptions {
  sessions: SessionManager
  /** Undefined where no keys are given out: there is nothing that a token would narrow. */
  desk: SessionTokenDesk | undefined
}

const BySession = z.strictObject({ session_id: SessionId })
const ById = z.strictObject({ session_id: SessionId, token_id: z.string().max(64) })
const SESSION = { kind: 'session', in: 'params', field: 'session_id' } as const

export const sessionTokenRoutes: FastifyPluginAsyncZod<SessionTokenRoutesOptions> = async (app, { sessions, desk }) => {
  const tags = ['Sessions']

  app.post(
    '/sessions/:session_id/tokens',
    {
      config: { access: { scopes: [], mints: true, owns: [{ ...SESSION, mayBeNew: true }] } },
      schema: {
        tags,
        operationId: 'makeSessionToken',
        summary: 'Make a token for one session, to give to the agent that works in it',
        description: 'The session is begun where it is new. The token ends with it, with its time, and with the key.',
        params: BySession,
        body: MakeSessionToken.nullish().transform((body) => body ?? MakeSessionToken.parse({})),
        response: { 201: SessionToken, ...problems(400, 403, 404, 409, 429, 503) },
      },
    },
    async (request, reply) => {
      const { session_id } = request.params
      const { ttl_seconds: ttlSeconds, scopes } = request.body
      const { caller } = request
      const owner = await sessions.open(session_id, caller)
      const made = await requireDesk(desk).mint({
        caller,
        session: session_id,
        owner: owner ?? undefined,
        scopes,
        ttlSeconds,
      })
      return reply.code(201).send({ ...made, session_id })
    },
  )

  app.delete(
    '/sessions/:session_id/tokens/:token_id',
    {
      config: { access: { scopes: [], mints: true, owns: [{ ...SESSION, mayBeNew: true }] } },
      schema: {
        tags,
        operationId: 'revokeSessionToken',
        summary: 'End a session token; may be repeated',
        params: ById,
        response: { 204: z.null().describe('It counts no more'), ...problems(400, 403, 404, 409, 503) },
      },
    },
    async (request, reply) => {
      const { session_id, token_id } = request.params
      await requireDesk(desk).revoke(session_id, token_id)
      return reply.code(204).send(null)
    },
  )
}

function requireDesk(desk: SessionTokenDesk | undefined): SessionTokenDesk {
  if (desk !== undefined) return desk
  throw new AppError('conflict', 'No keys are given out here, so that a token would narrow nothing', {
    hint: 'The operator sets CO_KEYS_FILE.',
  })
}
