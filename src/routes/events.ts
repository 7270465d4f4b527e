import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { viewOf } from '../domain/caller.ts'
import { queryInteger, SessionId } from '../domain/common.ts'
import { problems } from '../domain/problem.ts'
import type { EventQuery, EventReader } from '../managers/event-reader.ts'
import { callerSignal, lastEventId, type ServerSentEvent, sendEvents } from './sse.ts'
import { textOrEvents } from './tools.ts'

export interface EventRoutesOptions {
  events: EventReader
  closing: AbortSignal
}

const Query = z.strictObject({
  session_id: SessionId.optional(),
  after: queryInteger({ min: 0, max: 999_999_999_999_999 })
    .optional()
    .describe('Id of the last event that is known; 0 for all that are kept. Last-Event-ID counts before it'),
})

export const eventRoutes: FastifyPluginAsyncZod<EventRoutesOptions> = async (app, { events, closing }) => {
  app.get(
    '/events',
    {
      config: { access: { scopes: ['run', 'relic', 'worker', 'stats'] } },
      schema: {
        tags: ['Service'],
        operationId: 'followEvents',
        summary: 'What happens to runs, relics, workers, commands and sessions, as Server-Sent Events',
        description:
          'From now on, or behind Last-Event-ID, also over restarts of the service. A `gap` tells of events that are kept no more.',
        querystring: Query,
        response: { 200: textOrEvents('The events'), ...problems(400) },
      },
    },
    async (request, reply) => {
      const { session_id, after } = request.query
      const signal = callerSignal(reply, closing)
      const query = { after: lastEventId(request) ?? after, session_id, view: viewOf(request.caller), signal }
      return sendEvents(reply, told(events, query))
    },
  )
}

async function* told(events: EventReader, query: EventQuery): AsyncGenerator<ServerSentEvent> {
  for await (const event of events.follow(query)) {
    const { id, type } = event
    if ('events' in event) yield { id, event: type, data: { events: event.events } }
    else yield { id, event: type, data: { at: event.at, session_id: event.session_id, ...event.data } }
  }
}
