/** The logs of a run or relic: as text, or as events that end with the final record. */
import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { timestamp } from '../domain/common.ts'
import type { ReadLogs } from '../domain/output.ts'
import type { LogReader } from '../managers/log-reader.ts'
import { callerSignal, lastEventId, type ServerSentEvent, sendEvents, wantsEvents } from './sse.ts'

export interface LogSource {
  logs: LogReader
  id: string
  /** The record once nothing follows any more; undefined while something may. */
  final: () => Promise<object | undefined>
  closing: AbortSignal
}

export async function sendLogs(
  request: FastifyRequest,
  reply: FastifyReply,
  query: ReadLogs,
  source: LogSource,
): Promise<FastifyReply> {
  const { logs, id } = source
  if (!wantsEvents(request, query.follow)) {
    const text = logs.text(id, { stream: query.stream, tail: query.tail })
    return reply.type('text/plain; charset=utf-8').send(Readable.from(text))
  }
  const after = lastEventId(request)
  // The id of an `end` is beyond the spool: its reader has everything, and 204 tells it not to come back.
  if (after !== undefined && after > (await logs.end(id)) && (await source.final()) !== undefined)
    return reply.code(204).send()
  return sendEvents(reply, events(query, source, after, callerSignal(reply, source.closing)))
}

async function* events(
  query: ReadLogs,
  source: LogSource,
  after: number | undefined,
  signal: AbortSignal,
): AsyncGenerator<ServerSentEvent> {
  const { logs, id } = source
  let position = after ?? 0
  for await (const record of logs.events(id, {
    stream: query.stream,
    tail: query.tail,
    after,
    follow: true,
    signal,
  })) {
    position = record.id
    if (record.kind === 'gap') yield { id: record.id, event: 'gap', data: { bytes: record.bytes } }
    else if (record.kind === 'state') yield { id: record.id, event: 'state', data: JSON.parse(record.text) }
    else yield { id: record.id, event: record.kind, data: { text: record.text, at: timestamp(record.at) } }
  }
  if (signal.aborted) return
  const final = await source.final()
  // Without a final record the service is stopping: the caller reconnects to the next one.
  if (final !== undefined) yield { id: Math.max(position, await logs.end(id)) + 1, event: 'end', data: final }
}
