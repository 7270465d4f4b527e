/**
 * Requests for a WebSocket go the way of all requests: each hook sees them, whoever refuses one answers it as
 * ever, and a handler may take its connection over.
 */
import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyRequest {
    /** Of a request for a WebSocket: the connection, for the handler that hijacks the reply. */
    upgradedSocket: Duplex | undefined
  }
}

/** Tells Node which requests leave HTTP. Whoever asks for another protocol is answered in this one. */
export function isWebSocket({ method, headers }: IncomingMessage): boolean {
  const hasBody = headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined
  return method === 'GET' && !hasBody && headers.upgrade?.toLowerCase() === 'websocket'
}

export const webSockets = fp(async (app) => {
  const sockets = new WeakMap<IncomingMessage, Duplex>()
  app.decorateRequest('upgradedSocket', {
    getter() {
      return sockets.get(this.raw)
    },
  })

  app.server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    // Node's own listeners are gone with its parser.
    socket.on('error', () => {})
    socket.on('timeout', () => app.server.emit('timeout', socket))
    if (head.length > 0) socket.unshift(head)
    const response = new ServerResponse(request)
    response.shouldKeepAlive = false
    try {
      response.assignSocket(socket)
    } catch {
      // An earlier request on this connection has not been answered.
      socket.destroy()
      return
    }
    response.once('finish', () => socket.destroySoon())
    sockets.set(request, socket)
    app.server.emit('request', request, response)
  })
})
