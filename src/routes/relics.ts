import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { Access } from '../domain/access.ts'
import { viewOf } from '../domain/caller.ts'
import { ReadLogs } from '../domain/output.ts'
import { problems } from '../domain/problem.ts'
import { ListRelics, Relic, RelicHealth, RelicPage, StartRelic, StopRelic } from '../domain/relic.ts'
import type { Idempotency } from '../managers/idempotency.ts'
import type { LogReader } from '../managers/log-reader.ts'
import { newId } from '../managers/names.ts'
import type { RelicManager } from '../managers/relic-manager.ts'
import { IdempotencyHeaders, keyedCall } from './idempotent.ts'
import { sendLogs } from './logs.ts'
import { textOrEvents } from './tools.ts'

const OWN_RELIC = {
  scopes: ['relic'],
  owns: [{ kind: 'relic', in: 'params', field: 'relic_id' }],
} as const satisfies Access
const OWN_RELIC_OR_CLEANUP = { ...OWN_RELIC, scopes: ['relic', 'cleanup'] } as const satisfies Access

export interface RelicRoutesOptions {
  relics: RelicManager
  idempotency: Idempotency
  logs: LogReader
  closing: AbortSignal
}

const ById = z.strictObject({ relic_id: z.string().max(128) })

export const relicRoutes: FastifyPluginAsyncZod<RelicRoutesOptions> = async (
  app,
  { relics, idempotency, logs, closing },
) => {
  const tags = ['Relics']

  app.post(
    '/containers/relic/start',
    {
      config: {
        access: {
          scopes: ['relic'],
          builds: true,
          owns: [{ kind: 'session', in: 'body', field: 'session_id', mayBeNew: true }],
        },
      },
      schema: {
        tags,
        operationId: 'startRelic',
        summary: 'Start a relic and wait until it is healthy',
        headers: IdempotencyHeaders,
        body: StartRelic,
        response: { 201: Relic, ...problems(400, 403, 409, 413, 422, 429, 502, 503, 504) },
      },
    },
    async (request, reply) => {
      const relic = await idempotency.once(keyedCall(request, 'startRelic'), {
        newId: () => newId('relic'),
        make: (id) => relics.start(request.body, { id, caller: request.caller }),
        find: (id) => relics.started(id),
      })
      return reply.code(201).header('location', `/containers/relic/${relic.relic_id}`).send(relic)
    },
  )

  app.get(
    '/containers/relic',
    {
      config: { access: { scopes: ['relic'] } },
      schema: {
        tags,
        operationId: 'listRelics',
        summary: 'List relics, newest first',
        querystring: ListRelics,
        response: { 200: RelicPage, ...problems(400) },
      },
    },
    async (request) => {
      const { relic_name, ...filter } = request.query
      return relics.list({ ...filter, name: relic_name, view: viewOf(request.caller) })
    },
  )

  app.get(
    '/containers/relic/:relic_id',
    {
      config: { access: OWN_RELIC },
      schema: {
        tags,
        operationId: 'getRelic',
        summary: 'A relic',
        params: ById,
        response: { 200: Relic, ...problems(404) },
      },
    },
    async (request) => relics.get(request.params.relic_id),
  )

  app.post(
    '/containers/relic/:relic_id/stop',
    {
      config: { access: OWN_RELIC_OR_CLEANUP },
      schema: {
        tags,
        operationId: 'stopRelic',
        summary: 'Stop a relic and keep its container; may be repeated',
        params: ById,
        body: StopRelic.nullish().transform((body) => body ?? StopRelic.parse({})),
        response: { 200: Relic, ...problems(400, 404, 502, 503) },
      },
    },
    async (request) => relics.stop(request.params.relic_id, request.body.timeout_seconds),
  )

  app.post(
    '/containers/relic/:relic_id/restart',
    {
      config: { access: OWN_RELIC },
      schema: {
        tags,
        operationId: 'restartRelic',
        summary: 'Start the same container again and wait until it is healthy',
        params: ById,
        response: { 200: Relic, ...problems(404, 409, 422, 502, 503, 504) },
      },
    },
    async (request) => relics.restart(request.params.relic_id, request.caller),
  )

  app.delete(
    '/containers/relic/:relic_id',
    {
      config: { access: OWN_RELIC_OR_CLEANUP },
      schema: {
        tags,
        operationId: 'deleteRelic',
        summary: 'Remove a relic with its container and anonymous volumes; may be repeated',
        params: ById,
        response: { 204: z.null().describe('Removed'), ...problems(404, 502, 503) },
      },
    },
    async (request, reply) => {
      await relics.remove(request.params.relic_id)
      return reply.code(204).send(null)
    },
  )

  app.get(
    '/containers/relic/:relic_id/logs',
    {
      config: { access: OWN_RELIC },
      schema: {
        tags,
        operationId: 'getRelicLogs',
        summary: 'What a relic wrote, as text or as Server-Sent Events',
        params: ById,
        querystring: ReadLogs,
        response: { 200: textOrEvents('The output'), ...problems(400, 404) },
      },
    },
    async (request, reply) => {
      const id = request.params.relic_id
      await relics.get(id)
      const final = async () => {
        const relic = await relics.get(id)
        return relic.status === 'stopped' || relic.status === 'failed' ? relic : undefined
      }
      return sendLogs(request, reply, request.query, { logs, id, final, closing })
    },
  )

  app.get(
    '/containers/relic/:relic_id/health',
    {
      config: { access: OWN_RELIC },
      schema: {
        tags,
        operationId: 'getRelicHealth',
        summary: 'Health of a relic, with its last probes',
        params: ById,
        response: { 200: RelicHealth, ...problems(404) },
      },
    },
    async (request) => relics.health(request.params.relic_id),
  )
}
