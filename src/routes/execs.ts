/** Commands in workers. */

import type { FastifyReply, FastifyRequest } from 'fastify'
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { Access } from '../domain/access.ts'
import { Exec, ExecPage, ExecRequest, ListExecs, ReadExec } from '../domain/exec.ts'
import { problems } from '../domain/problem.ts'
import { WorkerById } from '../domain/worker.ts'
import type { ExecManager } from '../managers/exec-manager.ts'
import type { Idempotency } from '../managers/idempotency.ts'
import type { LogReader } from '../managers/log-reader.ts'
import { newId } from '../managers/names.ts'
import { IdempotencyHeaders, keyedCall } from './idempotent.ts'
import { sendLogs } from './logs.ts'
import { wantsEvents } from './sse.ts'

const OWN_EXEC = {
  scopes: ['exec'],
  owns: [{ kind: 'worker', in: 'params', field: 'worker_id' }],
} as const satisfies Access

export interface ExecRoutesOptions {
  execs: ExecManager
  idempotency: Idempotency
  logs: LogReader
  closing: AbortSignal
}

const PATH = '/containers/worker/:worker_id/exec'
const ById = WorkerById.extend({ exec_id: z.string().max(128) })
const execOrEvents = {
  description: 'The command; as Server-Sent Events its output and then, as `end`, the command',
  content: { 'application/json': { schema: Exec }, 'text/event-stream': { schema: z.string() } },
}

export const execRoutes: FastifyPluginAsyncZod<ExecRoutesOptions> = async (
  app,
  { execs, idempotency, logs, closing },
) => {
  const tags = ['Workers']

  app.post(
    PATH,
    {
      config: { access: OWN_EXEC },
      schema: {
        tags,
        operationId: 'execInWorker',
        summary: 'Run a command in a worker',
        description:
          'Answers 200 with the command once it has ended, whatever its exit code; with `"wait": false` 202 at once; with `"stream": true` or `Accept: text/event-stream` its output as it comes.',
        params: WorkerById,
        headers: IdempotencyHeaders,
        body: ExecRequest,
        response: { 200: execOrEvents, 202: Exec, ...problems(400, 403, 404, 409, 413, 422, 502, 503) },
      },
    },
    async (request, reply) => {
      const { worker_id } = request.params
      const { exec, done } = await idempotency.once(keyedCall(request, `execInWorker ${worker_id}`), {
        newId: () => newId('exec'),
        make: (id) => execs.start(worker_id, request.body, { id, caller: request.caller }),
        find: (id) => execs.started(id),
      })
      reply.header('location', `/containers/worker/${worker_id}/exec/${exec.exec_id}`)
      // Who does not wait goes away at once, and means to.
      const waits = request.body.wait || request.body.stream
      if (request.body.cancel_on_disconnect && waits) endWithCaller(reply, execs, worker_id, exec.exec_id, done)
      if (request.body.stream || wantsEvents(request, undefined)) return stream(request, reply, worker_id, exec.exec_id)
      if (!request.body.wait) return reply.code(202).send(exec)
      const ended = await Promise.race([done, untilClosing(closing, done)])
      // A service that stops answers what is known so far.
      return ended === undefined ? reply.code(202).send(exec) : reply.code(200).send(ended)
    },
  )

  app.get(
    PATH,
    {
      config: { access: OWN_EXEC },
      schema: {
        tags,
        operationId: 'listExecs',
        summary: 'List the latest commands of a worker, newest first, without their output',
        params: WorkerById,
        querystring: ListExecs,
        response: { 200: ExecPage, ...problems(400, 404) },
      },
    },
    async (request) => execs.list(request.params.worker_id, request.query, request.caller),
  )

  app.get(
    `${PATH}/:exec_id`,
    {
      config: { access: OWN_EXEC },
      schema: {
        tags,
        operationId: 'getExec',
        summary: 'A command in a worker, or, followed, its output from its beginning or behind Last-Event-ID',
        params: ById,
        querystring: ReadExec,
        response: { 200: execOrEvents, ...problems(400, 404) },
      },
    },
    async (request, reply) => {
      const { worker_id, exec_id } = request.params
      const exec = await execs.get(worker_id, exec_id, request.caller)
      if (wantsEvents(request, request.query.follow)) return stream(request, reply, worker_id, exec_id)
      return reply.code(200).send(exec)
    },
  )

  app.delete(
    `${PATH}/:exec_id`,
    {
      config: { access: OWN_EXEC },
      schema: {
        tags,
        operationId: 'cancelExec',
        summary: 'End a command with all that it started, and answer it; may be repeated',
        params: ById,
        response: { 200: Exec, ...problems(404, 502, 503) },
      },
    },
    async (request) => execs.cancel(request.params.worker_id, request.params.exec_id, request.caller),
  )

  async function stream(request: FastifyRequest, reply: FastifyReply, workerId: string, id: string) {
    const final = async () => {
      const exec = await execs.get(workerId, id)
      return exec.status === 'running' ? undefined : exec
    }
    return sendLogs(request, reply, { stream: 'all', follow: true }, { logs, id, final, closing })
  }
}

/** Ends a command whose caller goes away before it has ended. */
function endWithCaller(
  reply: FastifyReply,
  execs: ExecManager,
  workerId: string,
  execId: string,
  done: Promise<unknown>,
): void {
  let ended = false
  void done.then(() => {
    ended = true
  })
  const leave = () => {
    if (!ended) void execs.cancel(workerId, execId).catch(() => {})
  }
  // It may have gone while the command waited for its start.
  if (reply.raw.destroyed) leave()
  else reply.raw.once('close', leave)
}

/** Resolves when the service stops; lets go of its signal when the command has ended. */
function untilClosing(closing: AbortSignal, done: Promise<unknown>): Promise<undefined> {
  return new Promise((resolve) => {
    const stop = () => resolve(undefined)
    if (closing.aborted) stop()
    closing.addEventListener('abort', stop, { once: true })
    void done.then(() => {
      closing.removeEventListener('abort', stop)
      resolve(undefined)
    })
  })
}
