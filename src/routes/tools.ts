import { STATUS_CODES } from 'node:http'
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { Access } from '../domain/access.ts'
import { viewOf } from '../domain/caller.ts'
import { ReadLogs } from '../domain/output.ts'
import { problems } from '../domain/problem.ts'
import { ArtifactPage, ExecuteTool, hasEnded, ListTools, ToolRun, ToolRunPage } from '../domain/tool.ts'
import type { Idempotency } from '../managers/idempotency.ts'
import type { LogReader } from '../managers/log-reader.ts'
import { newId } from '../managers/names.ts'
import type { ToolManager } from '../managers/tool-manager.ts'
import { IdempotencyHeaders, keyedCall } from './idempotent.ts'
import { sendLogs } from './logs.ts'

const OWN_RUN = {
  scopes: ['run'],
  owns: [{ kind: 'tool', in: 'params', field: 'execution_id' }],
} as const satisfies Access
const OWN_RUN_OR_CLEANUP = { ...OWN_RUN, scopes: ['run', 'cleanup'] } as const satisfies Access

export interface ToolRoutesOptions {
  tools: ToolManager
  idempotency: Idempotency
  logs: LogReader
  closing: AbortSignal
}

const ById = z.strictObject({ execution_id: z.string().max(128) })
const Text = z.string()

export const toolRoutes: FastifyPluginAsyncZod<ToolRoutesOptions> = async (
  app,
  { tools, idempotency, logs, closing },
) => {
  const tags = ['Tools']

  app.post(
    '/containers/tool/execute',
    {
      config: {
        access: {
          scopes: ['run'],
          builds: true,
          owns: [{ kind: 'session', in: 'body', field: 'session_id', mayBeNew: true }],
        },
      },
      schema: {
        tags,
        operationId: 'executeTool',
        summary: 'Run a tool and answer how it ended',
        description:
          'Answers 200 with the finished run, whatever its exit code; with `"wait": false` or `Prefer: respond-async`, 202 at once.',
        headers: IdempotencyHeaders,
        body: ExecuteTool,
        response: { 200: ToolRun, 202: ToolRun, ...problems(400, 403, 409, 413, 422, 429, 503) },
      },
    },
    async (request, reply) => {
      const accepted = await idempotency.once(keyedCall(request, 'executeTool'), {
        newId: () => newId('exec'),
        make: (id) => tools.execute(request.body, { id, caller: request.caller }),
        find: (id) => tools.accepted(id),
      })
      reply.header('location', `/containers/tool/${accepted.execution_id}`)
      const async = /(^|[,\s])respond-async($|[,;\s])/.test(String(request.headers['prefer'] ?? ''))
      if (!request.body.wait || async) return reply.code(202).send(accepted)
      const run = await tools.ended(accepted.execution_id)
      // A service that stops leaves the run to its next start, where the caller finds it.
      return reply.code(hasEnded(run.status) ? 200 : 202).send(run)
    },
  )

  app.get(
    '/containers/tool',
    {
      config: { access: { scopes: ['run'] } },
      schema: {
        tags,
        operationId: 'listTools',
        summary: 'List runs, newest first, without their output',
        querystring: ListTools,
        response: { 200: ToolRunPage, ...problems(400) },
      },
    },
    async (request) => {
      const { tool_name, ...filter } = request.query
      return tools.list({ ...filter, name: tool_name, view: viewOf(request.caller) })
    },
  )

  app.get(
    '/containers/tool/:execution_id',
    {
      config: { access: OWN_RUN },
      schema: {
        tags,
        operationId: 'getTool',
        summary: 'A run',
        params: ById,
        response: { 200: ToolRun, ...problems(404) },
      },
    },
    async (request, reply) => {
      const { execution_id } = request.params
      const ended = await tools.endedJson(execution_id)
      if (ended === undefined) return tools.get(execution_id)
      void reply.type('application/json; charset=utf-8')
      // In the form of its schema since it was stored. Returned: where the reply is, Fastify waits for its end as well.
      return ended as unknown as ToolRun
    },
  )

  app.get(
    '/containers/tool/:execution_id/logs',
    {
      config: { access: OWN_RUN },
      schema: {
        tags,
        operationId: 'getToolLogs',
        summary: 'What a run wrote, as text or as Server-Sent Events',
        params: ById,
        querystring: ReadLogs,
        response: { 200: textOrEvents('The output'), ...problems(400, 404) },
      },
    },
    async (request, reply) => {
      const id = request.params.execution_id
      await tools.get(id)
      await tools.openLog(id)
      const final = async () => {
        const run = await tools.get(id)
        return hasEnded(run.status) ? run : undefined
      }
      return sendLogs(request, reply, request.query, { logs, id, final, closing })
    },
  )

  app.post(
    '/containers/tool/:execution_id/cancel',
    {
      config: { access: OWN_RUN_OR_CLEANUP },
      schema: {
        tags,
        operationId: 'cancelTool',
        summary: 'Kill a run, and answer it ended',
        params: ById,
        response: { 200: ToolRun, ...problems(404, 409, 503) },
      },
    },
    async (request) => tools.cancel(request.params.execution_id),
  )

  app.get(
    '/containers/tool/:execution_id/artifacts',
    {
      config: { access: OWN_RUN },
      schema: {
        tags,
        operationId: 'listToolArtifacts',
        summary: 'Files that a run left',
        params: ById,
        response: { 200: ArtifactPage, ...problems(404) },
      },
    },
    async (request) => ({ items: await tools.artifacts(request.params.execution_id), next_cursor: null }),
  )

  app.get(
    '/containers/tool/:execution_id/artifacts/*',
    {
      config: { access: OWN_RUN },
      schema: {
        tags,
        operationId: 'getToolArtifact',
        summary: 'The content of one file that a run left',
        params: z.strictObject({ execution_id: z.string().max(128), '*': z.string().max(2048) }),
        response: {
          200: { description: 'The file', content: { 'application/octet-stream': { schema: Text } } },
          ...problems(404),
        },
      },
    },
    async (request, reply) => {
      const { artifact, content } = await tools.artifact(request.params.execution_id, request.params['*'])
      return reply
        .type('application/octet-stream')
        .header('content-length', artifact.bytes)
        .header('content-disposition', 'attachment')
        .header('etag', `"${artifact.sha256}"`)
        .serializer((payload: string) => payload)
        .send(content as unknown as string)
    },
  )
}

/** The 200 of a route that answers text, or events to those who ask for them. */
export function textOrEvents(description: string) {
  return {
    description: description || (STATUS_CODES[200] ?? ''),
    content: { 'text/plain': { schema: Text }, 'text/event-stream': { schema: Text } },
  }
}
