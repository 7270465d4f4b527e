/** The headers of helmet: what a browser that shows an answer may do with it. */
import { IncomingMessage, type OutgoingHttpHeaders, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import fp from 'fastify-plugin'
import helmet from 'helmet'

/** On every answer of a route and on refusals; not on what is no request. Register it before whoever refuses. */
export const securityHeaders = fp(async (app) => {
  const headers = helmetHeaders()
  app.addHook('onRequest', (_request, reply, done) => {
    reply.headers(headers)
    done()
  })
})

/** helmet sets the same headers on all answers; setting them one by one on each costs more than all else that a read does. */
function helmetHeaders(): OutgoingHttpHeaders {
  const request = new IncomingMessage(new Socket())
  const answer = new ServerResponse(request)
  helmet({ contentSecurityPolicy: false, strictTransportSecurity: false })(request, answer, () => {})
  return { ...answer.getHeaders() }
}
