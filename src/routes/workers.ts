import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { Access } from '../domain/access.ts'
import { viewOf } from '../domain/caller.ts'
import { ReadLogs } from '../domain/output.ts'
import { problems } from '../domain/problem.ts'
import {
  ListWorkers,
  RefreshWorker,
  Snapshot,
  SnapshotWorker,
  StopWorker,
  Worker,
  WorkerById,
  WorkerHealth,
  WorkerPage,
  WorkerStats,
} from '../domain/worker.ts'
import { EnsureWorker, StartWorker } from '../domain/worker-spec.ts'
import { AppError } from '../errors.ts'
import type { Idempotency } from '../managers/idempotency.ts'
import type { LogReader } from '../managers/log-reader.ts'
import { newId } from '../managers/names.ts'
import type { WorkerHealthManager } from '../managers/worker-health-manager.ts'
import type { WorkerManager } from '../managers/worker-manager.ts'
import { LIVE } from '../managers/worker-record.ts'
import { IdempotencyHeaders, keyedCall } from './idempotent.ts'
import { sendLogs } from './logs.ts'
import { textOrEvents } from './tools.ts'

const OWN_WORKER = {
  scopes: ['worker'],
  owns: [{ kind: 'worker', in: 'params', field: 'worker_id' }],
} as const satisfies Access
const OWN_WORKER_OR_CLEANUP = { ...OWN_WORKER, scopes: ['worker', 'cleanup'] } as const satisfies Access

const LAST_WORKER_OR_CLEANUP = {
  scopes: ['worker', 'cleanup'],
  owns: [{ ...OWN_WORKER.owns[0], mayBeGone: true }],
} as const satisfies Access

export interface WorkerRoutesOptions {
  workers: WorkerManager
  idempotency: Idempotency
  workerHealth: WorkerHealthManager
  logs: LogReader
  closing: AbortSignal
}

const PATH = '/containers/worker/:worker_id'
const params = WorkerById

export const workerRoutes: FastifyPluginAsyncZod<WorkerRoutesOptions> = async (
  app,
  { workers, idempotency, workerHealth, logs, closing },
) => {
  const tags = ['Workers']

  app.post(
    '/containers/worker/start',
    {
      config: {
        access: {
          scopes: ['worker'],
          owns: [
            { kind: 'worker', in: 'body', field: 'worker_id', mayBeNew: true },
            { kind: 'session', in: 'body', field: 'session_id', mayBeNew: true },
          ],
        },
      },
      schema: {
        tags,
        operationId: 'startWorker',
        summary: 'Start a worker and wait until it is ready',
        description: 'A stale container of the same worker is replaced; a live one is a 409.',
        headers: IdempotencyHeaders,
        body: StartWorker,
        response: { 201: Worker, ...problems(400, 403, 409, 413, 422, 429, 502, 503, 504) },
      },
    },
    async (request, reply) => {
      const worker = await idempotency.once(keyedCall(request, 'startWorker'), {
        newId: () => newId('worker'),
        make: (id) => workers.start(request.body, { id, caller: request.caller }),
        find: (id) => workers.started(id),
      })
      return reply.code(201).header('location', `/containers/worker/${worker.worker_id}`).send(worker)
    },
  )

  app.post(
    `${PATH}/ensure`,
    {
      config: {
        access: {
          scopes: ['worker'],
          owns: [
            { kind: 'worker', in: 'params', field: 'worker_id', mayBeNew: true },
            { kind: 'session', in: 'body', field: 'session_id', mayBeNew: true },
          ],
        },
      },
      schema: {
        tags,
        operationId: 'ensureWorker',
        summary: 'Answer the worker that runs, started or created where it does not',
        params,
        body: EnsureWorker,
        response: { 200: Worker, 201: Worker, ...problems(400, 403, 409, 413, 422, 429, 502, 503, 504) },
      },
    },
    async (request, reply) => {
      const { worker, created } = await workers.ensure(namedByPath(request.params.worker_id, request.body), request)
      if (created) reply.header('location', `/containers/worker/${worker.worker_id}`)
      return reply.code(created ? 201 : 200).send(worker)
    },
  )

  app.get(
    '/containers/worker',
    {
      config: { access: { scopes: ['worker'] } },
      schema: {
        tags,
        operationId: 'listWorkers',
        summary: 'List workers, newest first, with how many run and what they may use of the host',
        querystring: ListWorkers,
        response: { 200: WorkerPage, ...problems(400) },
      },
    },
    async (request) => workers.list({ ...request.query, view: viewOf(request.caller) }),
  )

  app.get(
    PATH,
    {
      config: { access: OWN_WORKER },
      schema: {
        tags,
        operationId: 'getWorker',
        summary: 'A worker, with its exit code and what that means',
        params,
        response: { 200: Worker, ...problems(404) },
      },
    },
    async (request) => workers.get(request.params.worker_id, request.caller),
  )

  app.post(
    `${PATH}/stop`,
    {
      config: { access: OWN_WORKER_OR_CLEANUP },
      schema: {
        tags,
        operationId: 'stopWorker',
        summary: 'Stop a worker and keep its container; may be repeated',
        params,
        body: StopWorker.nullish().transform((body) => body ?? StopWorker.parse({})),
        response: { 200: Worker, ...problems(400, 404, 409, 502, 503) },
      },
    },
    async (request) => workers.stop(request.params.worker_id, request.body.timeout_seconds, request.caller),
  )

  app.post(
    `${PATH}/restart`,
    {
      config: { access: OWN_WORKER },
      schema: {
        tags,
        operationId: 'restartWorker',
        summary: 'Stop a worker where it runs, and start the same container again',
        params,
        response: { 200: Worker, ...problems(404, 409, 422, 429, 502, 503, 504) },
      },
    },
    async (request) => workers.restart(request.params.worker_id, request.caller),
  )

  app.post(
    `${PATH}/refresh`,
    {
      config: { access: OWN_WORKER },
      schema: {
        tags,
        operationId: 'refreshWorker',
        summary: 'Recreate the container of a worker and keep its workspace',
        params,
        body: RefreshWorker.nullish().transform((body) => body ?? RefreshWorker.parse({})),
        response: { 200: Worker, ...problems(400, 403, 404, 409, 422, 429, 502, 503, 504) },
      },
    },
    async (request) => workers.refresh(request.params.worker_id, request.body, request.caller),
  )

  app.delete(
    PATH,
    {
      config: { access: LAST_WORKER_OR_CLEANUP },
      schema: {
        tags,
        operationId: 'deleteWorker',
        summary: 'Remove a worker with its container, logs and own volumes; may be repeated',
        params,
        response: { 204: z.null().describe('Removed'), ...problems(404, 502, 503) },
      },
    },
    async (request, reply) => {
      await workers.remove(request.params.worker_id, { caller: request.caller })
      return reply.code(204).send(null)
    },
  )

  app.post(
    `${PATH}/pause`,
    {
      config: { access: OWN_WORKER },
      schema: {
        tags,
        operationId: 'pauseWorker',
        summary: 'Freeze all processes of a worker; may be repeated',
        params,
        response: { 200: Worker, ...problems(404, 409, 502, 503) },
      },
    },
    async (request) => workers.pause(request.params.worker_id, request.caller),
  )

  app.post(
    `${PATH}/resume`,
    {
      config: { access: OWN_WORKER },
      schema: {
        tags,
        operationId: 'resumeWorker',
        summary: 'Thaw a paused worker; may be repeated',
        params,
        response: { 200: Worker, ...problems(404, 409, 502, 503) },
      },
    },
    async (request) => workers.resume(request.params.worker_id, request.caller),
  )

  app.post(
    `${PATH}/snapshot`,
    {
      config: { access: OWN_WORKER },
      schema: {
        tags,
        operationId: 'snapshotWorker',
        summary: "Commit a worker's root file system to an image that another worker can start from",
        params,
        headers: IdempotencyHeaders,
        body: SnapshotWorker.nullish().transform((body) => body ?? SnapshotWorker.parse({})),
        response: { 201: Snapshot, ...problems(400, 404, 409, 422, 502, 503) },
      },
    },
    async (request, reply) => {
      const { worker_id } = request.params
      const { name } = request.body
      const snapshot = await idempotency.once(keyedCall(request, `snapshotWorker ${worker_id}`), {
        newId: () => newId('snapshot'),
        make: (id) => workers.snapshot(worker_id, name ?? id, request.caller),
        find: (id) => workers.snapshotOf(worker_id, name ?? id),
      })
      return reply.code(201).send(snapshot)
    },
  )

  app.get(
    `${PATH}/logs`,
    {
      config: { access: OWN_WORKER },
      schema: {
        tags,
        operationId: 'getWorkerLogs',
        summary: 'What a worker wrote, as text or as Server-Sent Events',
        params,
        querystring: ReadLogs,
        response: { 200: textOrEvents('The output'), ...problems(400, 404) },
      },
    },
    async (request, reply) => {
      const { worker_id } = request.params
      const id = await workers.recordId(worker_id, request.caller)
      const final = async () => {
        const worker = await workers.get(worker_id, request.caller)
        return LIVE.has(worker.status) ? undefined : worker
      }
      return sendLogs(request, reply, request.query, { logs, id, final, closing })
    },
  )

  app.get(
    `${PATH}/stats`,
    {
      config: { access: { ...OWN_WORKER, scopes: ['worker', 'stats'] } },
      schema: {
        tags,
        operationId: 'getWorkerStats',
        summary: 'What a worker uses, its age and the disk of its workspace',
        params,
        response: { 200: WorkerStats, ...problems(404, 409) },
      },
    },
    async (request) => workerHealth.stats(request.params.worker_id, request.caller),
  )

  app.get(
    `${PATH}/health`,
    {
      config: { access: OWN_WORKER },
      schema: {
        tags,
        operationId: 'getWorkerHealth',
        summary: 'Whether a worker is healthy, and why not',
        params,
        response: { 200: WorkerHealth, ...problems(404) },
      },
    },
    async (request) => workerHealth.health(request.params.worker_id, request.caller),
  )
}

/** The body of `ensure` with the name that the path gives; another one in it is a mistake. */
function namedByPath(workerId: string, body: z.infer<typeof EnsureWorker>): StartWorker {
  if (body.worker_id !== undefined && body.worker_id !== workerId) {
    const message = `the path names worker "${workerId}"`
    throw new AppError('validation_failed', `worker_id: ${message}`, { errors: [{ path: 'worker_id', message }] })
  }
  const parsed = EnsureWorker.shape.worker_id.unwrap().safeParse(workerId)
  if (!parsed.success) {
    const message = parsed.error.issues[0]?.message ?? 'is not a name'
    throw new AppError('validation_failed', `worker_id: ${message}`, { errors: [{ path: 'worker_id', message }] })
  }
  return { ...body, worker_id: workerId }
}
