/** Files in workers, as raw bytes; folders as tar. */

import { Readable } from 'node:stream'
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { Access } from '../domain/access.ts'
import { problems } from '../domain/problem.ts'
import { WorkerById } from '../domain/worker.ts'
import { ListFiles, WorkerFolder, WriteFile, WrittenFiles } from '../domain/worker-file.ts'
import { AppError } from '../errors.ts'
import type { WorkerFiles } from '../managers/worker-files.ts'
import { passBodies } from './raw-bodies.ts'
import { callerSignal } from './sse.ts'

const OWN_FILES = {
  scopes: ['files'],
  owns: [{ kind: 'worker', in: 'params', field: 'worker_id' }],
} as const satisfies Access

export interface WorkerFileRoutesOptions {
  files: WorkerFiles
  closing: AbortSignal
}

const PATH = '/containers/worker/:worker_id/files'
const ByPath = WorkerById.extend({ '*': z.string().max(2048) })
const TAR = 'application/x-tar'
const bytes = { schema: z.string().meta({ format: 'binary' }) }

export const workerFileRoutes: FastifyPluginAsyncZod<WorkerFileRoutesOptions> = async (app, { files, closing }) => {
  const tags = ['Workers']
  passBodies(app)

  app.get(
    PATH,
    {
      config: { access: OWN_FILES },
      schema: {
        tags,
        operationId: 'listWorkerFiles',
        summary: 'What lies in a folder of a worker, running or stopped',
        params: WorkerById,
        querystring: ListFiles,
        response: { 200: WorkerFolder, ...problems(400, 403, 404, 409, 413, 502, 503) },
      },
    },
    async (request, reply) =>
      files.list(request.params.worker_id, request.query.path, callerSignal(reply, closing), request.caller),
  )

  app.get(
    `${PATH}/*`,
    {
      config: { access: OWN_FILES },
      schema: {
        tags,
        operationId: 'readWorkerFile',
        summary: 'A file of a worker, or a folder as a tar; running or stopped',
        description:
          'A path that begins with "/" (encoded) or with "workspace/" is absolute; any other lies beneath /workspace.',
        params: ByPath,
        response: {
          200: { description: 'The content', content: { 'application/octet-stream': bytes, [TAR]: bytes } },
          ...problems(400, 403, 404, 409, 413, 502, 503),
        },
      },
    },
    async (request, reply) => {
      const { worker_id, '*': path } = request.params
      const read = await files.read(worker_id, path, callerSignal(reply, closing), request.caller)
      reply.serializer((payload) => payload as string)
      if (read.type === 'folder') return reply.type(TAR).send(read.content as never)
      return reply
        .type('application/octet-stream')
        .header('content-length', read.bytes)
        .send(read.content as never)
    },
  )

  app.put(
    `${PATH}/*`,
    {
      config: { access: OWN_FILES },
      schema: {
        tags,
        operationId: 'writeWorkerFile',
        summary: 'Write a file into a worker, or, with Content-Type application/x-tar, the files of a folder',
        consumes: ['application/octet-stream', TAR],
        params: ByPath,
        querystring: WriteFile,
        response: { 201: WrittenFiles, ...problems(400, 403, 404, 409, 413, 502, 503) },
      },
    },
    async (request, reply) => {
      const { worker_id, '*': path } = request.params
      const signal = callerSignal(reply, closing)
      const content = request.body instanceof Readable ? request.body : Readable.from([])
      const isTar = (request.headers['content-type'] ?? '').split(';')[0]?.trim() === TAR
      if (isTar) return reply.code(201).send(await files.writeFolder(worker_id, path, content, signal, request.caller))
      const length = request.headers['content-length']
      if (length === undefined && request.headers['transfer-encoding'] !== undefined) {
        throw new AppError('validation_failed', 'A file is written with a Content-Length', {
          hint: 'Send its size in the header Content-Length, or a tar.',
        })
      }
      const options = { bytes: Number(length ?? 0), mode: Number.parseInt(request.query.mode, 8), signal }
      return reply.code(201).send(await files.write(worker_id, path, content, options, request.caller))
    },
  )
}
