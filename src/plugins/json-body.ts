/** Reads the bodies of requests: JSON in UTF-8 as it is, bounded, and nothing else. */
import { isUtf8 } from 'node:buffer'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { AppError } from '../errors.ts'
import { faultOfJson, type JsonLimits } from './json-scan.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The body is for somebody else, who may know its encoding. */
    passesBody?: true
  }
}

const LIMITS: JsonLimits = { depth: 32, members: 50_000 }
const BYTE_ORDER_MARK = '\ufeff'
const HINT = 'Send a JSON object in UTF-8 with Content-Type: application/json.'

export const jsonBody = fp(async (app) => {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'buffer' },
    async ({ headers }: FastifyRequest, body: Buffer) => readJson(body, headers['content-type']),
  )
  app.addHook('preParsing', (request, _reply, payload, done) => {
    const encoding = request.headers['content-encoding']
    if (encoding !== undefined && encoding.toLowerCase() !== 'identity' && !request.routeOptions.config.passesBody) {
      throw refuse(`The body has the Content-Encoding ${encoding.slice(0, 64)}, and none is read`)
    }
    done(null, payload)
  })
})

function readJson(body: Buffer, contentType = ''): unknown {
  const [, charset] = /;\s*charset="?([^\s";]*)/i.exec(contentType) ?? []
  if (charset !== undefined && !/^utf-?8$/i.test(charset)) throw refuse('The body is not in UTF-8')
  if (body.length === 0) throw refuse('The body is empty')
  if (!isUtf8(body)) throw refuse('The body is not valid UTF-8')
  const text = body.toString('utf8')
  if (text.startsWith(BYTE_ORDER_MARK)) throw refuse('The body begins with a byte order mark')
  const fault = faultOfJson(text, LIMITS)
  if (fault !== undefined) throw refuse(`The body ${fault}`)
  try {
    return JSON.parse(text)
  } catch (error) {
    throw refuse('The body is not JSON', error)
  }
}

function refuse(detail: string, cause?: unknown): AppError {
  return new AppError('validation_failed', detail, { hint: HINT, ...(cause === undefined ? {} : { cause }) })
}
