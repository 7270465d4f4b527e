/** Calls that may last: undici over the engine's socket, ended by their owner's signal. */
import type { Duplex, Readable } from 'node:stream'
import { Pool } from 'undici'
import { EngineError } from '../../errors.ts'
import type { Breaker } from './breaker.ts'
import type { EngineEndpoint } from './endpoint.ts'
import { refusal, translate } from './faults.ts'

const ERROR_BODY_LIMIT = 64 * 1024

export interface StreamRequest {
  doing: string
  method: 'GET' | 'POST' | 'PUT' | 'HEAD'
  path: string
  query?: Record<string, string>
  headers?: Record<string, string>
  body?: Readable | string
  signal?: AbortSignal | undefined
  /** Milliseconds until the answer begins; what follows may last. */
  answerWithinMs?: number
}

type UpgradeRequest = Omit<StreamRequest, 'body'> & { body?: string }

interface OpenedStream {
  headers: Record<string, unknown>
  body: Readable
}

export class StreamClient {
  readonly #pool: Pool
  readonly #breaker: Breaker
  /** Path prefix with the negotiated version: `/v1.41`. */
  version = ''

  constructor(endpoint: EngineEndpoint, breaker: Breaker) {
    this.#breaker = breaker
    const unbounded = { headersTimeout: 0, bodyTimeout: 0, pipelining: 1, clientTtl: null }
    this.#pool =
      'socketPath' in endpoint
        ? new Pool('http://engine', { ...unbounded, socketPath: endpoint.socketPath })
        : new Pool(originOf(endpoint), {
            ...unbounded,
            ...(endpoint.tls ? { connect: endpoint.tls } : {}),
          })
  }

  /** Opens a request; resolves with headers and body of a success. */
  open(request: StreamRequest): Promise<OpenedStream> {
    return this.#breaker.guard(request.doing, (lost) => this.#open(request, lost))
  }

  /** Turns a request into a raw connection in both directions, as attach and exec need. */
  upgrade(request: UpgradeRequest): Promise<Duplex> {
    return this.#breaker.guard(request.doing, (lost) => this.#upgrade(request, lost))
  }

  async #open(request: StreamRequest, lost: AbortSignal): Promise<OpenedStream> {
    const opening = openingOf(request, lost)
    try {
      const answer = await this.#pool.request({
        method: request.method,
        path: this.#target(request),
        headers: request.headers ?? {},
        body: request.body ?? null,
        signal: opening.signal,
      })
      // Whoever reads it sees the failure; one that nobody reads yet would end the process by it.
      answer.body.on('error', () => {})
      if (answer.statusCode < 300) return { headers: answer.headers, body: answer.body }
      throw refusal(request.doing, answer.statusCode, await errorMessage(answer.body))
    } catch (error) {
      throw translate(request.doing, error)
    } finally {
      opening.over()
    }
  }

  async #upgrade(request: UpgradeRequest, lost: AbortSignal): Promise<Duplex> {
    const { signal } = request
    const opening = openingOf(request, lost)
    try {
      const options = {
        method: request.method,
        path: this.#target(request),
        protocol: 'tcp',
        headers: request.headers ?? {},
        ...(request.body === undefined ? {} : { body: request.body }),
        signal: opening.signal,
      }
      const { socket } = await this.#pool.upgrade(options)
      // Whoever reads or writes sees the failure; a socket without this listener would end the process.
      socket.on('error', () => {})
      const abort = () => socket.destroy()
      signal?.addEventListener('abort', abort, { once: true })
      socket.once('close', () => signal?.removeEventListener('abort', abort))
      if (signal?.aborted) abort()
      return socket
    } catch (error) {
      // Instead of upgrading, the daemon answers a refusal, which undici reports with its status.
      const status = (error as { statusCode?: number }).statusCode
      if (typeof status === 'number') throw refusal(request.doing, status, '')
      throw translate(request.doing, error)
    } finally {
      opening.over()
    }
  }

  async close(): Promise<void> {
    await this.#pool.destroy()
  }

  #target({ path, query }: StreamRequest): string {
    const search = new URLSearchParams(query).toString()
    return `${this.version}${path}${search === '' ? '' : `?${search}`}`
  }
}

/**
 * A signal for the time until the answer begins: the owner's, the deadline's, and that of an engine which
 * stops answering. What follows then is the owner's alone: `over` ends the others' part in it.
 */
function openingOf(
  { signal, answerWithinMs }: Pick<StreamRequest, 'signal' | 'answerWithinMs'>,
  lost: AbortSignal,
): { signal: AbortSignal; over: () => void } {
  const opening = new AbortController()
  const late = () => opening.abort(new DOMException('The answer did not begin in time', 'TimeoutError'))
  const timer = answerWithinMs === undefined ? undefined : setTimeout(late, answerWithinMs)
  const leave = () => opening.abort(lost.reason)
  lost.addEventListener('abort', leave, { once: true })
  return {
    signal: signal === undefined ? opening.signal : AbortSignal.any([signal, opening.signal]),
    over: () => {
      clearTimeout(timer)
      lost.removeEventListener('abort', leave)
    },
  }
}

function originOf({ host, port, tls }: { host: string; port: number; tls?: object }): string {
  return `${tls ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${port}`
}

async function errorMessage(body: AsyncIterable<Buffer>): Promise<string> {
  let text = ''
  for await (const part of body) {
    text += part.toString('utf8')
    if (text.length > ERROR_BODY_LIMIT) break
  }
  try {
    const parsed: unknown = JSON.parse(text)
    if (typeof parsed === 'object' && parsed !== null && 'message' in parsed) return String(parsed.message)
  } catch {
    // Not JSON: the text itself is the message.
  }
  return text
}

/** Re-throws the failure of a stream that broke off as an `EngineError`; an abort ends it quietly. */
export async function* guarded<T>(doing: string, source: AsyncIterable<T>, signal?: AbortSignal): AsyncGenerator<T> {
  try {
    yield* source
  } catch (error) {
    if (signal?.aborted) return
    throw error instanceof EngineError ? error : translate(doing, error)
  }
}
