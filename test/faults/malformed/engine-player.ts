/** A server on a unix socket that answers each request with the next of the bytes it was given, however wrong. */
import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'

/** Bytes as they go over the wire, and what becomes of the connection behind them. */
export interface WireReply {
  parts: readonly Buffer[]
  after: 'keep' | 'end' | 'cut' | 'pend'
}

export class EnginePlayer {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  /** For the requests of one call, in their order; those beyond are answered by `otherwise`. */
  script: WireReply[] = []
  readonly #otherwise: WireReply
  readonly #ping: WireReply | undefined

  /** Where `ping` is given, an engine's own signs of life are told that, whatever the script says. */
  constructor(otherwise: WireReply, ping?: WireReply) {
    this.#otherwise = otherwise
    this.#ping = ping
    this.#server = createServer((socket) => this.#serve(socket))
  }

  async listen(path: string): Promise<void> {
    this.#server.listen(path)
    await once(this.#server, 'listening')
  }

  async close(): Promise<void> {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
    await once(this.#server, 'close')
  }

  #serve(socket: Socket): void {
    let held: Buffer = Buffer.alloc(0)
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
    // A client may hang up at any byte.
    socket.on('error', () => {})
    socket.on('data', (data) => {
      held = Buffer.concat([held, data])
      for (let length = requestLength(held); length !== undefined; length = requestLength(held)) {
        const isPing = held.toString('latin1', 0, 64).includes('/_ping?')
        held = held.subarray(length)
        const reply = (isPing ? this.#ping : undefined) ?? this.script.shift() ?? this.#otherwise
        void send(socket, reply)
      }
    })
  }
}

async function send(socket: Socket, { parts, after }: WireReply): Promise<void> {
  for (const part of parts) {
    if (socket.destroyed) return
    socket.write(part)
    // Each part is a read of its own for the client.
    if (parts.length > 1) await new Promise((resolve) => setImmediate(resolve))
  }
  if (after === 'end') socket.end()
  else if (after === 'cut') socket.destroy()
}

/** Bytes of the first whole request; undefined while it is not whole. */
function requestLength(bytes: Buffer): number | undefined {
  const head = bytes.indexOf('\r\n\r\n')
  if (head === -1) return undefined
  const body = head + 4
  const text = bytes.toString('latin1', 0, head).toLowerCase()
  const length = /^content-length: *(\d+)/m.exec(text)?.[1]
  if (length !== undefined) return bytes.length >= body + Number(length) ? body + Number(length) : undefined
  return /^transfer-encoding: *chunked/m.test(text) ? chunkedEnd(bytes, body) : body
}

function chunkedEnd(bytes: Buffer, from: number): number | undefined {
  for (let at = from; ; ) {
    const line = bytes.indexOf('\r\n', at)
    if (line === -1) return undefined
    const size = Number.parseInt(bytes.toString('latin1', at, line), 16)
    const next = line + 2 + size + 2
    if (bytes.length < next) return undefined
    if (size === 0) return next
    at = next
  }
}
