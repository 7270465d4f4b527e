/** HTTP and WebSocket calls to a relic's port, passed on through the door: one connection for each. */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http'
import { type Duplex, pipeline, type Readable } from 'node:stream'
import { AppError, isEngineFault } from '../errors.ts'
import type { Door, DoorTarget } from './door.ts'
import type { PortForwarder } from './port-forwarder.ts'
import { NOTHING, requestHeaders, type Visitor } from './proxy-headers.ts'

/** A call as it is to arrive. */
export interface RelicCall {
  method: string
  /** Path and query, as the caller wrote them. */
  path: string
  /** Of the caller, as Node lists them. */
  headers: readonly string[]
  /** Undefined for none. */
  body: Readable | undefined
  /** Asks for a WebSocket. */
  isUpgrade: boolean
  visitor: Visitor
}

/** What a relic answered. Its body fails where the relic breaks off, or is silent for too long. */
export interface RelicAnswer {
  status: number
  message: string
  /** As Node lists them. */
  headers: readonly string[]
  body: Readable
  /** With a 101, which has no body: joins the caller's connection to the relic's, until either ends. Never rejects. */
  join?: (caller: Duplex) => Promise<void>
}

/** Where a relic is reached. */
export interface RelicPlace {
  target: DoorTarget
  /** Name and port, as those write them who share its network. */
  host: string
}

/** Knows where relics are. */
export interface RelicPlaces {
  /** Throws `not_found` for what there is not, `conflict` for one that does not run. Counts as use of its session. */
  visit(relicId: string): Promise<RelicPlace>
}

export interface RelicProxyOptions {
  door: Door
  relics: RelicPlaces
  /** Counts connections, and ends them with their relic. */
  forwarder: Pick<PortForwarder, 'track'>
  /** How long it may take to dial; 15 s where absent. */
  connectMs?: number
  /** How long no byte may pass either way; 10 minutes where absent. */
  idleMs?: number
}

// The connection itself has five seconds there; a busy engine takes its time to begin with it.
const CONNECT_MS = 15_000
const IDLE_MS = 600_000

export class RelicProxy {
  readonly #options: RelicProxyOptions

  constructor(options: RelicProxyOptions) {
    this.#options = options
  }

  /**
   * Passes a call on, and answers with the head of what the relic answered; bodies stream. The signal ends
   * it, with its connection, at any time. Rejects with `relic_unreachable` where the relic does not take the
   * connection or ends it without an answer, with `relic_timeout` where it is silent, and as the body fails.
   */
  async send(relicId: string, call: RelicCall, signal: AbortSignal): Promise<RelicAnswer> {
    const { target, host } = await this.#options.relics.visit(relicId)
    const connection = await this.#dial(target, signal)
    this.#options.forwarder.track(relicId, connection)
    const request = httpRequest({
      createConnection: () => connection,
      method: call.method,
      path: call.path,
      headers: requestHeaders(call, host, call.visitor),
    })
    const line = new Line(connection, request, this.#options.idleMs ?? IDLE_MS, signal)
    return line.exchange(call)
  }

  async #dial(target: DoorTarget, signal: AbortSignal): Promise<Duplex> {
    const { door, connectMs = CONNECT_MS } = this.#options
    // Only while it dials: the signal of a connection ends it at any time.
    const overdue = new AbortController()
    const timer = setTimeout(() => overdue.abort(), connectMs)
    try {
      return await door.dial(target, AbortSignal.any([signal, overdue.signal]))
    } catch (error) {
      if (overdue.signal.aborted) {
        throw new AppError('relic_timeout', `The relic did not take a connection within ${connectMs / 1000} seconds`)
      }
      // It may have ended a moment ago.
      if (error instanceof AppError && !isEngineFault(error, 'conflict', 'not_found')) throw error
      throw unreachable('does not take connections', error)
    } finally {
      clearTimeout(timer)
    }
  }
}

/** One connection, and the one call on it. */
class Line {
  readonly #connection: Duplex
  readonly #request: ClientRequest
  readonly #idle: NodeJS.Timeout
  readonly #idleMs: number
  /** Why it was ended from this side. */
  #fault: Error | undefined

  constructor(connection: Duplex, request: ClientRequest, idleMs: number, signal: AbortSignal) {
    this.#connection = connection
    this.#request = request
    this.#idleMs = idleMs
    this.#idle = setTimeout(() => this.#end(this.#silence()), idleMs)
    const onAbort = () => this.#end(new AppError('request_timeout', 'The caller has left'))
    signal.addEventListener('abort', onAbort)
    connection.on('error', () => {})
    connection.once('close', () => {
      clearTimeout(this.#idle)
      signal.removeEventListener('abort', onAbort)
    })
    if (signal.aborted) onAbort()
  }

  exchange({ body, isUpgrade }: RelicCall): Promise<RelicAnswer> {
    return new Promise((resolve, reject) => {
      this.#request.on('error', (error) => {
        reject(this.#told(error))
        this.#connection.destroy()
      })
      // The parser reads first: a listener before it would set the bytes flowing.
      this.#request.on('socket', () => this.#connection.on('data', () => this.#idle.refresh()))
      this.#request.on('response', (response) => {
        const answer = this.#answer(response)
        if (answer === undefined) this.#end(unreachable(`answers with the status ${response.statusCode}`))
        else resolve(answer)
      })
      this.#request.on('upgrade', (response, socket, head) => {
        if (!isUpgrade || response.headers.upgrade?.toLowerCase() !== 'websocket') {
          this.#end(unreachable('changes to a protocol that nobody asked for'))
          reject(this.#told())
          return
        }
        if (head.length > 0) socket.unshift(head)
        resolve({ ...headOf(response), body: response, join: (caller) => this.#join(socket, caller) })
      })
      if (body === undefined) {
        this.#request.end()
        return
      }
      // It may wait for an answer before it goes on.
      this.#request.write(NOTHING)
      pipeline(body, this.#request, (error) => {
        // An answer may come before the body was taken, and then it counts.
        if (error instanceof AppError) this.#end(error)
      })
      body.on('data', () => this.#idle.refresh())
    })
  }

  #answer(response: IncomingMessage): RelicAnswer | undefined {
    const head = headOf(response)
    if (head.status < 200 || head.status > 599) return undefined
    response.once('close', () => this.#connection.destroy())
    return { ...head, body: response }
  }

  /** A WebSocket has no use for one direction alone: the end of either ends both. */
  #join(relic: Duplex, caller: Duplex): Promise<void> {
    relic.pipe(caller).pipe(relic)
    caller.on('data', () => this.#idle.refresh())
    // What the relic wrote last is still on its way.
    relic.once('close', () => caller.end())
    caller.once('finish', () => caller.destroy())
    caller.once('end', () => caller.destroy())
    return new Promise((resolve) => {
      caller.once('close', () => {
        relic.destroy()
        resolve()
      })
    })
  }

  #end(fault: Error): void {
    this.#fault ??= fault
    this.#request.destroy(fault)
    this.#connection.destroy()
  }

  #silence(): AppError {
    return new AppError('relic_timeout', `Nothing came from the relic for ${this.#idleMs / 1000} seconds`)
  }

  #told(error?: unknown): Error {
    return this.#fault ?? unreachable('ended the connection without an answer', error)
  }
}

function headOf({ statusCode = 0, statusMessage = '', rawHeaders }: IncomingMessage) {
  // Node reads control characters there, and writes none.
  return { status: statusCode, message: statusMessage.replace(/\p{Cc}/gu, ' '), headers: rawHeaders }
}

function unreachable(what: string, cause?: unknown): AppError {
  return new AppError('relic_unreachable', `The relic ${what}`, {
    hint: 'GET …/health and …/logs of the relic tell how it is; its port is the `port` of its start.',
    ...(cause === undefined ? {} : { cause }),
  })
}
