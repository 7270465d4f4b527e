import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { problems } from '../domain/problem.ts'
import { AllStats, ListStats, OneContainerStats, OneStatsQuery } from '../domain/stats.ts'
import type { StatsManager } from '../managers/stats-manager.ts'
import { callerSignal, type ServerSentEvent, sendEvents, wantsEvents } from './sse.ts'

export interface StatsRoutesOptions {
  stats: StatsManager
  closing: AbortSignal
}

export const statsRoutes: FastifyPluginAsyncZod<StatsRoutesOptions> = async (app, { stats, closing }) => {
  const tags = ['Stats']

  app.get(
    '/containers/stats',
    {
      config: { access: { scopes: ['stats'] } },
      schema: {
        tags,
        operationId: 'listStats',
        summary: 'What all containers use',
        querystring: ListStats,
        response: { 200: AllStats, ...problems(400, 503) },
      },
    },
    async (request) => stats.all({ ...request.query, caller: request.caller }),
  )

  app.get(
    '/containers/stats/:id',
    {
      config: { access: { scopes: ['stats'], owns: [{ kind: 'container', in: 'params', field: 'id' }] } },
      schema: {
        tags,
        operationId: 'getStats',
        summary: 'What one container uses, by its id or that of its tool run or relic',
        params: z.strictObject({ id: z.string().max(128) }),
        querystring: OneStatsQuery,
        response: {
          200: {
            description: 'A sample, or a stream of them',
            content: { 'application/json': { schema: OneContainerStats }, 'text/event-stream': { schema: z.string() } },
          },
          ...problems(400, 404, 503),
        },
      },
    },
    async (request, reply) => {
      const { id } = request.params
      const { follow, history } = request.query
      const first = await stats.one(id, history)
      if (!wantsEvents(request, follow)) return first
      const signal = callerSignal(reply, closing)
      return sendEvents(reply, samples(stats.follow(id, signal, history), signal)) as never
    },
  )
}

async function* samples(
  followed: AsyncIterable<OneContainerStats>,
  signal: AbortSignal,
): AsyncGenerator<ServerSentEvent> {
  let count = 0
  let last: OneContainerStats | undefined
  for await (const sample of followed) {
    last = sample
    yield { id: ++count, event: 'stats', data: sample }
  }
  if (!signal.aborted) yield { id: count + 1, event: 'end', data: last ?? null }
}
