import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { viewOf } from '../domain/caller.ts'
import { queryBoolean, SessionId } from '../domain/common.ts'
import { problems } from '../domain/problem.ts'
import { CleanupReport, ListSessions, RenewSession, Session, SessionPage, SessionSummary } from '../domain/session.ts'
import type { SessionManager } from '../managers/session-manager.ts'

const SESSION = { kind: 'session', in: 'params', field: 'session_id' } as const

const ById = z.strictObject({ session_id: SessionId })

export const sessionRoutes: FastifyPluginAsyncZod<{ sessions: SessionManager }> = async (app, { sessions }) => {
  const tags = ['Sessions']

  app.get(
    '/sessions',
    {
      config: { access: { scopes: ['run', 'relic', 'worker', 'stats'] } },
      schema: {
        tags,
        operationId: 'listSessions',
        summary: 'List sessions',
        querystring: ListSessions,
        response: { 200: SessionPage, ...problems(400, 503) },
      },
    },
    async (request) => sessions.list({ ...request.query, view: viewOf(request.caller) }),
  )

  app.get(
    '/sessions/:session_id',
    {
      config: { access: { scopes: ['run', 'relic', 'worker', 'stats'], owns: [SESSION] } },
      schema: {
        tags,
        operationId: 'getSession',
        summary: 'A session with its tools, relics, network and use',
        params: ById,
        response: { 200: Session, ...problems(400, 404, 503) },
      },
    },
    async (request) => sessions.get(request.params.session_id),
  )

  app.put(
    '/sessions/:session_id',
    {
      config: {
        access: { keysOnly: true, scopes: ['run', 'relic', 'worker'], owns: [{ ...SESSION, mayBeNew: true }] },
      },
      schema: {
        tags,
        operationId: 'renewSession',
        summary: 'Set how long a session lasts, counted from now; makes it where it is new',
        params: ById,
        body: RenewSession,
        response: { 200: SessionSummary, ...problems(400, 409, 503) },
      },
    },
    async (request) => sessions.renew(request.params.session_id, request.body, request.caller),
  )

  app.delete(
    '/sessions/:session_id',
    {
      config: { access: { scopes: ['run', 'relic', 'worker', 'cleanup'], owns: [{ ...SESSION, mayBeNew: true }] } },
      schema: {
        tags,
        operationId: 'deleteSession',
        summary: 'End a session and all that it has; may be repeated',
        params: ById,
        querystring: z.strictObject({ force: queryBoolean.optional(), dry_run: queryBoolean.optional() }),
        response: { 200: CleanupReport, ...problems(400, 503) },
      },
    },
    async (request) => {
      const { force = false, dry_run = false } = request.query
      return sessions.cleanup(request.params.session_id, { force, dryRun: dry_run, caller: request.caller })
    },
  )
}
