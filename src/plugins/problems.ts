import { STATUS_CODES } from 'node:http'
import type { FastifyError, FastifyReply, FastifyRequest, FastifySchemaValidationError } from 'fastify'
import fp from 'fastify-plugin'
import { hasZodFastifySchemaValidationErrors, isResponseSerializationError } from 'fastify-type-provider-zod'
import { PROBLEM_CONTENT_TYPE, type Problem } from '../domain/problem.ts'
import { AppError, type ErrorCode, type FieldError, statusOf } from '../errors.ts'
import { challenge } from './access.ts'

const JSON_HINT = 'Send a JSON object with Content-Type: application/json.'

export const problemDetails = fp(async (app) => {
  app.setErrorHandler((error: FastifyError | AppError | Error, request, reply) =>
    answer(translate(error, request), request, reply),
  )
  app.setNotFoundHandler((request, reply) =>
    answer(
      new AppError('not_found', `There is nothing at ${request.method} ${request.url.split('?')[0]}`, {
        hint: 'GET /docs lists what there is.',
      }),
      request,
      reply,
    ),
  )
})

/** What never reaches a route: a URL that cannot be decoded. */
export function answerFrameworkError(error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const refusal = new AppError('validation_failed', `The URL cannot be read: ${error.message}`, { cause: error })
  void answer(refusal, request, reply.header('x-request-id', request.id))
}

function translate(error: FastifyError | AppError | Error, request: FastifyRequest): AppError {
  if (error instanceof AppError) return error
  if (hasZodFastifySchemaValidationErrors(error)) {
    const errors = error.validation.flatMap(fieldErrors)
    const [first] = errors
    const detail =
      first === undefined ? 'The request is not valid' : `${first.path === '' ? 'body' : first.path}: ${first.message}`
    return new AppError('validation_failed', detail, { errors, cause: error })
  }
  const status = 'statusCode' in error ? error.statusCode : undefined
  if (status === 413) {
    return new AppError('body_too_large', 'The body is larger than 1 MiB', {
      hint: 'Send large files by volume, or in several runs.',
      cause: error,
    })
  }
  if (status === 415) {
    const type = request.headers['content-type']
    const said = type === undefined ? 'has no Content-Type' : `has the Content-Type ${type.slice(0, 64)}`
    return new AppError('validation_failed', `The body ${said}, which is not read here`, {
      cause: error,
      hint: JSON_HINT,
    })
  }
  if (status === 404) return new AppError('not_found', error.message, { cause: error })
  // Fastify's own refusals of what cannot be parsed: bad JSON, a wrong content type, a forbidden key.
  if (status !== undefined && status >= 400 && status < 500 && !isResponseSerializationError(error)) {
    return new AppError('validation_failed', error.message, {
      cause: error,
      hint: JSON_HINT,
    })
  }
  request.log.error({ event: 'request.failed', err: error }, 'a request failed by a fault of the service')
  return new AppError('internal_error', 'The service failed on this request; its log tells why under the request id', {
    cause: error,
  })
}

/** The faults that one failed check tells, with dotted paths. */
function fieldErrors({
  keyword,
  instancePath,
  message = 'is not valid',
  params,
}: FastifySchemaValidationError): FieldError[] {
  const path = instancePath.split('/').filter((part) => part !== '')
  const { keys } = params as { keys?: string[] }
  if (keyword === 'unrecognized_keys' && keys !== undefined) {
    return keys.map((key) => ({ path: [...path, key].join('.'), message: 'unknown field' }))
  }
  return [{ path: path.join('.'), message }]
}

function answer(error: AppError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { retryAfterSeconds } = error.details
  const status = statusOf(error.code)
  if (status >= 500 && error.code !== 'internal_error') {
    request.log.warn({ event: 'request.refused', code: error.code, detail: error.message }, 'request refused')
  }
  if (error.code === 'unauthenticated') challenge(reply)
  if (retryAfterSeconds !== undefined) reply.header('retry-after', String(retryAfterSeconds))
  const problem = problemOf(error, request.id)
  return reply.code(status).type(PROBLEM_CONTENT_TYPE).serializer(JSON.stringify).send(problem)
}

/** A whole HTTP/1.1 answer, for connections on which there is no request to reply to; the last of its connection. */
export function problemAnswer(error: AppError): string {
  const id = crypto.randomUUID()
  const problem = problemOf(error, id)
  const body = JSON.stringify(problem)
  const { retryAfterSeconds } = error.details
  return [
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}`,
    `content-type: ${PROBLEM_CONTENT_TYPE}`,
    `content-length: ${Buffer.byteLength(body)}`,
    `x-request-id: ${id}`,
    ...(retryAfterSeconds === undefined ? [] : [`retry-after: ${retryAfterSeconds}`]),
    'connection: close',
    '',
    body,
  ].join('\r\n')
}

function problemOf(error: AppError, requestId: string): Problem {
  const { hint, errors, logsTail, phase, exitCode, instance, rule } = error.details
  return {
    type: `urn:container-orchestrator:problem:${error.code}`,
    title: titleOf(error.code),
    status: statusOf(error.code),
    detail: error.message,
    code: error.code,
    ...(rule === undefined ? {} : { rule }),
    request_id: requestId,
    ...(instance === undefined ? {} : { instance }),
    ...(hint === undefined ? {} : { hint }),
    ...(errors === undefined || errors.length === 0 ? {} : { errors }),
    ...(logsTail === undefined ? {} : { logs_tail: logsTail }),
    ...(phase === undefined ? {} : { phase }),
    ...(exitCode === undefined ? {} : { exit_code: exitCode }),
  }
}

function titleOf(code: ErrorCode): string {
  const words = code.replaceAll('_', ' ')
  return words.charAt(0).toUpperCase() + words.slice(1)
}
