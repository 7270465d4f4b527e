/**
 * Stands on a unix socket between a service and its engine: passes bytes, records requests, and breaks
 * what it is told to break. Answers are bytes to it, so that it can break them at any one of them.
 */
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type RequestHead, RequestParser } from './request-parser.ts'

/** What is kept of a request's body where nothing else is said: uploads of files and build contexts are longer. */
const BODY_BYTES = 1024 * 1024
/** A control character: JSON allows none, wherever it stands, and HTTP none in a head. */
const GARBAGE = 0x01

export interface EngineRequest extends RequestHead {
  /** Bytes of the body as far as they are kept; complete once the request has been sent whole. */
  body: Buffer
  /** How many bytes of the body have passed, kept or not. */
  bodyBytes: number
  /** Milliseconds since 1970. */
  at: number
  fault: SocketFault | undefined
}

/** What happens to one request or its answer; bytes are counted from the first of the answer's head. */
export type SocketFault =
  /** The connection ends before the engine hears of the request. */
  | { kind: 'cut' }
  /** It is answered 403 in the engine's form, which does not hear of it, and the connection ends. */
  | { kind: 'refuse'; message: string }
  /** The answer comes later. */
  | { kind: 'delay'; milliseconds: number }
  /** The connection ends after so many bytes of the answer. */
  | { kind: 'truncate'; bytes: number }
  /** Bytes of the answer are replaced by such that neither JSON nor a head allows. */
  | { kind: 'garble'; from: number; bytes: number }
  /** Nothing comes after so many bytes of the answer, and the connection stays. */
  | { kind: 'stall'; bytes: number }

/** Decides by a request's method and path; undefined lets it pass. */
export type FaultRule = (request: RequestHead) => SocketFault | undefined

export class SocketProxy {
  /** As `DOCKER_HOST` takes it. */
  readonly host: string
  /** Of the socket. */
  get path(): string {
    return this.#path
  }
  readonly requests: EngineRequest[] = []
  /** For requests from now on. */
  rule: FaultRule | undefined
  /** How much of each body is kept, in bytes. */
  keep = BODY_BYTES
  /** Where one direction of a connection ends, so does the other: for connections from now on. */
  endsBoth = false
  readonly #folder: string
  readonly #path: string
  readonly #target: string
  readonly #connections = new Set<Connection>()
  #server: Server | undefined

  private constructor(folder: string, target: string) {
    this.#folder = folder
    this.#path = join(folder, 'engine.sock')
    this.host = `unix://${this.#path}`
    this.#target = target
  }

  /** Listens before an engine at `unix:///path`. */
  static async open(engineHost = 'unix:///var/run/docker.sock', rule?: FaultRule): Promise<SocketProxy> {
    const [, target] = /^unix:\/\/(\/.*)$/.exec(engineHost) ?? []
    if (target === undefined) throw new Error(`not a unix socket: ${engineHost}`)
    const proxy = new SocketProxy(await mkdtemp(join(tmpdir(), 'co-proxy-')), target)
    proxy.rule = rule
    await proxy.accept()
    return proxy
  }

  get connections(): number {
    return this.#connections.size
  }

  /** Ends all connections at once, as a daemon that dies does; new ones are taken. */
  cut(): void {
    for (const connection of this.#connections) connection.destroy()
  }

  /** Takes no new connections: the socket is gone. */
  async refuse(): Promise<void> {
    const server = this.#server
    if (server === undefined) return
    this.#server = undefined
    const closed = once(server, 'close')
    // Removes the socket's file at once; `close` comes when the last connection has ended.
    server.close()
    if (this.#connections.size === 0) await closed
  }

  /** Takes connections again. */
  async accept(): Promise<void> {
    if (this.#server !== undefined) return
    const server = createServer({ allowHalfOpen: true }, (client) => {
      const connection = new Connection(client, this.#target, {
        hear: (head) => this.#heard(head),
        keep: () => this.keep,
        endsBoth: this.endsBoth,
      })
      this.#connections.add(connection)
      client.once('close', () => this.#connections.delete(connection))
    })
    this.#server = server
    server.listen(this.#path)
    await once(server, 'listening')
  }

  /** Requests by method and by what their path contains or matches. */
  asked(method: string, path: string | RegExp): EngineRequest[] {
    return this.requests.filter(
      (request) =>
        request.method === method && (typeof path === 'string' ? request.path.includes(path) : path.test(request.path)),
    )
  }

  async close(): Promise<void> {
    this.cut()
    await this.refuse()
    await rm(this.#folder, { recursive: true, force: true })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #heard(head: RequestHead): EngineRequest {
    const request: EngineRequest = {
      ...head,
      body: Buffer.alloc(0),
      bodyBytes: 0,
      at: Date.now(),
      fault: this.rule?.(head),
    }
    this.requests.push(request)
    return request
  }
}

interface ConnectionOptions {
  hear: (head: RequestHead) => EngineRequest
  keep: () => number
  endsBoth: boolean
}

/** One connection of a client, and its own to the engine. */
class Connection {
  readonly #client: Socket
  readonly #engine: Socket
  /** The request whose answer comes, since clients do not pipeline. */
  #current: EngineRequest | undefined
  #answered = 0
  #answersFrom = 0

  constructor(client: Socket, target: string, { hear, keep, endsBoth }: ConnectionOptions) {
    this.#client = client
    this.#engine = connect({ path: target, allowHalfOpen: true })
    const parser = new RequestParser({
      onHead: (head) => this.#begin(hear(head)),
      onBody: (bytes) => {
        const request = this.#current
        if (request === undefined) return
        request.bodyBytes += bytes.length
        const room = keep() - request.body.length
        if (room > 0) request.body = Buffer.concat([request.body, bytes.subarray(0, room)])
      },
      onEnd: () => {},
    })
    client.on('data', (bytes) => {
      parser.push(bytes)
      // A rule may have ended it.
      if (!client.writableEnded && !client.destroyed) send(bytes, client, this.#engine)
    })
    this.#engine.on('data', (bytes) => this.#answer(bytes))
    client.on('end', () => {
      this.#engine.end()
      if (endsBoth) client.end()
    })
    this.#engine.on('end', () => this.#afterDelay(() => client.end()))
    // What one side sent before it went, the other still gets.
    client.on('close', () => this.#engine.destroySoon())
    this.#engine.on('close', () => client.destroySoon())
    // `close` follows.
    for (const socket of [client, this.#engine]) socket.on('error', () => {})
  }

  destroy(): void {
    this.#client.destroy()
    this.#engine.destroy()
  }

  #begin(request: EngineRequest): void {
    this.#current = request
    this.#answered = 0
    this.#answersFrom = request.fault?.kind === 'delay' ? Date.now() + request.fault.milliseconds : 0
    if (request.fault?.kind === 'cut') this.destroy()
    if (request.fault?.kind === 'refuse') this.#refuse(request.fault.message)
  }

  #refuse(message: string): void {
    const body = JSON.stringify({ message })
    const head = ['HTTP/1.1 403 Forbidden', 'Content-Type: application/json', 'Connection: close']
    this.#client.end([...head, `Content-Length: ${Buffer.byteLength(body)}`, '', body].join('\r\n'))
    this.#engine.destroy()
  }

  #answer(bytes: Buffer): void {
    const wait = this.#answersFrom - Date.now()
    if (wait <= 0) {
      this.#pass(bytes)
      return
    }
    this.#engine.pause()
    this.#afterDelay(() => {
      this.#pass(bytes)
      this.#engine.resume()
    })
  }

  #afterDelay(work: () => void): void {
    const wait = this.#answersFrom - Date.now()
    if (wait <= 0) work()
    else setTimeout(work, wait)
  }

  #pass(bytes: Buffer): void {
    const before = this.#answered
    this.#answered += bytes.length
    const fault = this.#current?.fault
    if (fault?.kind === 'truncate' || fault?.kind === 'stall') {
      const rest = fault.bytes - before
      const passed = rest > 0 ? bytes.subarray(0, rest) : Buffer.alloc(0)
      if (fault.kind === 'stall' || rest > bytes.length) send(passed, this.#engine, this.#client)
      else if (passed.length > 0) this.#client.write(passed, () => this.destroy())
      else this.destroy()
      return
    }
    send(fault?.kind === 'garble' ? garbled(bytes, before, fault) : bytes, this.#engine, this.#client)
  }
}

function garbled(bytes: Buffer, before: number, fault: { from: number; bytes: number }): Buffer {
  const broken = Buffer.from(bytes)
  const start = Math.max(0, fault.from - before)
  const end = Math.max(start, fault.from + fault.bytes - before)
  return broken.fill(GARBAGE, Math.min(start, broken.length), Math.min(end, broken.length))
}

/** Writes, and lets the source wait where the other side reads more slowly. */
function send(bytes: Buffer, from: Socket, to: Socket): void {
  if (bytes.length === 0 || to.destroyed || to.write(bytes)) return
  from.pause()
  to.once('drain', () => from.resume())
}
