/** A relic's port, from outside its network: HTTP and WebSocket, as they are. */
import type { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { Access } from '../domain/access.ts'
import { problems } from '../domain/problem.ts'
import { AppError } from '../errors.ts'
import { answerHeaders, NOTHING } from '../managers/proxy-headers.ts'
import type { RelicAnswer, RelicCall, RelicProxy } from '../managers/relic-proxy.ts'
import { passBodies } from './raw-bodies.ts'
import { callerSignal } from './sse.ts'

const OWN_RELIC = {
  scopes: ['relic'],
  owns: [{ kind: 'relic', in: 'params', field: 'relic_id' }],
} as const satisfies Access

export interface RelicProxyRoutesOptions {
  relicProxy: RelicProxy
  closing: AbortSignal
}

/** In this order: a GET would bring a HEAD of its own. */
const METHODS = ['HEAD', 'GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const
const ById = z.strictObject({ relic_id: z.string().max(128) })
const Headers = z.looseObject({
  'x-relic-authorization': z
    .string()
    .optional()
    .describe('Sent to the relic as Authorization; the Authorization of this call is for this service alone'),
})
/** A stream, of which nothing is looked at. */
const content = z.any().meta({ type: 'string', format: 'binary' })
const anything = { '*/*': { schema: z.string().meta({ format: 'binary' }) } }
/** In the document; one that comes is passed on. */
const WITHOUT_BODY = new Set<string>(['HEAD', 'GET', 'OPTIONS', 'DELETE'])

const DESCRIPTION = `Path, query, body and answer pass as they are, streamed, of any type and size; a GET may ask for a
WebSocket. The relic is told \`Host: <relic_name>:<port>\`, \`X-Forwarded-For\`, \`-Host\`, \`-Proto\` and \`-Prefix\`, and
\`X-Request-Id\`. An answer of the relic has \`Via: 1.1 container-orchestrator\`; one without it is this service's own.
Redirects are passed on. Pages are sandboxed: to use one in a browser, publish the port with \`ports\`.`

const PATH = '/containers/relic/:relic_id/proxy'

export const relicProxyRoutes: FastifyPluginAsyncZod<RelicProxyRoutesOptions> = async (
  app,
  { relicProxy, closing },
) => {
  passBodies(app)

  const handler = async (request: FastifyRequest, reply: FastifyReply) => {
    const { relic_id } = request.params as z.infer<typeof ById>
    const socket = request.upgradedSocket
    const call = { ...callOf(request), isUpgrade: socket !== undefined }
    const answer = await relicProxy.send(relic_id, call, callerSignal(reply, closing))
    // What the relic answered goes out at once, its head before there is a body.
    reply.hijack()
    if (answer.join === undefined || socket === undefined) return pass(answer, reply)
    socket.write(switching(answer, request.id), 'latin1')
    await answer.join(socket)
    request.log.info(
      { event: 'websocket.finished', relic_id, duration_ms: Math.round(reply.elapsedTime) },
      'websocket finished',
    )
  }

  for (const method of METHODS) {
    const config = { access: OWN_RELIC, passesBody: true } as const
    app.route({
      method,
      url: `${PATH}/*`,
      config,
      schema: {
        tags: ['Relics'],
        operationId: `proxyRelic${method.charAt(0)}${method.slice(1).toLowerCase()}`,
        summary: `Pass a ${method} on to a relic's port`,
        description: DESCRIPTION,
        params: ById.extend({ '*': z.string() }),
        headers: Headers,
        ...(WITHOUT_BODY.has(method) ? {} : { consumes: ['*/*'], body: content }),
        response: {
          '2xx': { description: 'Whatever the relic answers, also with other statuses', content: anything },
          ...problems(400, 404, 408, 409, 502, 503, 504),
        },
      },
      handler,
    })
    // The router takes the last "/" off a path, and has nothing left for the wildcard.
    app.route({ method, url: PATH, config, schema: { hide: true, params: ById }, handler })
  }
}

function callOf(request: FastifyRequest): Omit<RelicCall, 'isUpgrade'> {
  const { prefix, path } = split(request.raw.url ?? '')
  return {
    method: request.method,
    path,
    headers: request.raw.rawHeaders,
    body: bodyOf(request),
    visitor: {
      address: request.ip,
      host: request.headers.host ?? '',
      protocol: request.protocol,
      prefix,
      requestId: request.id,
    },
  }
}

/** Nothing is decoded: what the caller wrote behind `/proxy` is the relic's, and names no host or port. */
function split(url: string): { prefix: string; path: string } {
  const [, prefix, path, query = ''] = /^((?:\/[^/?#]*){4})((?:\/[^?#]*)?)(\?[^#]*)?$/.exec(url) ?? []
  if (prefix === undefined) throw new AppError('validation_failed', 'The URL has a fragment, which is never sent')
  return { prefix, path: `${path || '/'}${query}` }
}

function bodyOf({ body, raw }: FastifyRequest): Readable | undefined {
  const { 'content-length': length = '0', 'transfer-encoding': encoding } = raw.headers
  if (length === '0' && encoding === undefined) return undefined
  // A GET with a body has it unread.
  return (body as Readable | undefined) ?? raw
}

function pass({ status, message, headers, body }: RelicAnswer, reply: FastifyReply): void {
  const { raw } = reply
  for (const [name, value] of Object.entries(reply.getHeaders())) {
    if (value !== undefined) raw.setHeader(name, value)
  }
  raw.writeHead(
    status,
    message,
    answerHeaders(headers, (name) => raw.hasHeader(name)),
  )
  raw.write(NOTHING)
  body.pipe(raw)
  body.on('error', () => {})
  // Where the relic breaks off, so does this answer: its caller is told by the end of the connection.
  body.once('close', () => {
    if (!raw.writableEnded) raw.destroy()
  })
}

/** The head that ends HTTP on a connection. Its parser let no line break into a header. */
function switching({ headers }: RelicAnswer, requestId: string): string {
  const passed = answerHeaders(headers, (name) => name === 'x-request-id')
  const lines = passed.flatMap((name, index) => (index % 2 === 0 ? [`${name}: ${passed[index + 1]}`] : []))
  return [
    'HTTP/1.1 101 Switching Protocols',
    'connection: Upgrade',
    'upgrade: websocket',
    ...lines,
    `x-request-id: ${requestId}`,
    '',
    '',
  ].join('\r\n')
}
