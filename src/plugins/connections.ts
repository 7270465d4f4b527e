/**
 * Connections of callers: how many there are, and when the service ends one. Where all are taken, the one
 * that has waited longest without a request makes room, so that a caller who only holds connections
 * locks nobody out.
 */
import type { Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import fp from 'fastify-plugin'
import { AppError } from '../errors.ts'
import type { HttpLimits } from './http-limits.ts'
import { problemAnswer } from './problems.ts'

/** What the HTTP parser tells with an error. */
export interface ClientError extends Error {
  code?: string
}

const RETRY_AFTER_SECONDS = 1

export class Connections {
  readonly #limits: HttpLimits
  /** Without a request, the longest waiting first. */
  readonly #idle = new Set<Socket>()
  /** By what is being answered on them. */
  readonly #busy = new Map<Socket, Set<ServerResponse>>()

  constructor(limits: HttpLimits) {
    this.#limits = limits
  }

  get count(): number {
    return this.#idle.size + this.#busy.size
  }

  /** What is being answered. */
  get answering(): ServerResponse[] {
    return [...this.#busy.values()].flatMap((responses) => [...responses])
  }

  /** Watches over a server that does not listen yet. */
  watch(server: Server): void {
    server.on('connection', (socket: Socket) => this.#take(socket))
    server.prependListener('request', ({ socket }, response) => this.#begin(socket, response))
    // The server's listener decides: without it every silent connection would end, also one that waits for its answer.
    server.setTimeout(this.#limits.stalledReaderMs, (socket: Socket) => {
      if (this.#idle.has(socket) || socket.writableLength > 0) socket.destroy()
    })
  }

  /** Answers what is no request, or did not come in time, and ends the connection. */
  refuse(error: ClientError, socket: Socket): void {
    const answering = [...(this.#busy.get(socket) ?? [])]
    // Behind the beginning of another answer it would be read as a part of that.
    const isFree = socket.writable && error.code !== 'ECONNRESET' && answering.every(({ headersSent }) => !headersSent)
    if (!isFree) {
      socket.destroy()
      return
    }
    socket.write(problemAnswer(refusalOf(error)))
    socket.destroySoon()
  }

  #take(socket: Socket): void {
    if (this.count >= this.#limits.maxConnections && !this.#makeRoom()) {
      const refusal = new AppError('overloaded', 'All connections of this service are in use', {
        retryAfterSeconds: RETRY_AFTER_SECONDS,
      })
      socket.write(problemAnswer(refusal))
      socket.destroySoon()
      return
    }
    this.#idle.add(socket)
    socket.once('close', () => {
      this.#idle.delete(socket)
      this.#busy.delete(socket)
    })
  }

  #makeRoom(): boolean {
    const [longest] = this.#idle
    if (longest === undefined) return false
    // Its `close` comes later than the next connection may.
    this.#idle.delete(longest)
    longest.destroy()
    return true
  }

  #begin(socket: Socket, response: ServerResponse): void {
    this.#idle.delete(socket)
    const answering = this.#busy.get(socket) ?? new Set()
    this.#busy.set(socket, answering.add(response))
    // It closes once; `once` would cost an object and a removal for each answer.
    response.on('close', () => {
      answering.delete(response)
      if (answering.size > 0 || !this.#busy.delete(socket) || socket.destroyed) return
      this.#idle.add(socket)
    })
  }
}

function refusalOf(error: ClientError): AppError {
  switch (error.code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new AppError('request_timeout', 'The head of the request did not come in time', { cause: error })
    case 'HPE_HEADER_OVERFLOW':
      return new AppError('headers_too_large', 'The head of the request is larger than 16 KiB', { cause: error })
    default:
      return new AppError('validation_failed', 'This is not an HTTP request', { cause: error })
  }
}

/** Sets the connections of an app's server under watch. */
export const connectionBounds = fp<{ connections: Connections }>(async (app, { connections }) => {
  connections.watch(app.server)
})
