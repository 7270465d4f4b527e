/**
 * Calls that answer once: dockerode's modem with a deadline on each. It is dialled directly, since
 * dockerode's own methods put options such as the abort signal into the body that they send.
 */
import type Dockerode from 'dockerode'
import { z } from 'zod'
import { EngineError } from '../../errors.ts'
import type { Breaker } from './breaker.ts'
import { translate } from './faults.ts'

const DEADLINE_MS = 30_000

export interface ControlRequest {
  /** What the caller is about, for messages: "creating container x". */
  doing: string
  method: 'GET' | 'POST' | 'DELETE' | 'HEAD'
  path: string
  query?: Record<string, string>
  /** Built from typed fields alone, never from a caller's object. */
  body?: object
  deadlineMs?: number
}

export class ControlClient {
  readonly #docker: Dockerode
  readonly #breaker: Breaker

  constructor(docker: Dockerode, breaker: Breaker) {
    this.#docker = docker
    this.#breaker = breaker
  }

  /** Resolves with the parsed answer of a success, null where it has no body. */
  call(request: ControlRequest): Promise<unknown> {
    return this.#breaker.guard(request.doing, () => this.probe(request))
  }

  /** As `call`, whatever the breaker says. */
  async probe(request: ControlRequest): Promise<unknown> {
    const query = new URLSearchParams(request.query).toString()
    // The modem appends `_query` behind a "?", and sends `_body`; both given, it adds nothing of its own.
    const dial = {
      path: `${request.path}?${query}`,
      method: request.method,
      options: { _query: {}, _body: request.body ?? {} },
      abortSignal: AbortSignal.timeout(request.deadlineMs ?? DEADLINE_MS),
      statusCodes: { 200: true, 201: true, 202: true, 204: true, 304: true },
    }
    return new Promise((resolve, reject) => {
      this.#docker.modem.dial(dial, (error: unknown, answer: unknown) => {
        if (error) reject(translate(request.doing, error))
        else resolve(Buffer.isBuffer(answer) && answer.length === 0 ? null : answer)
      })
    })
  }

  /** As `call`, with the answer's shape checked: a daemon that sends another one is a `protocol` fault. */
  async read<T>(schema: z.ZodType<T>, request: ControlRequest): Promise<T> {
    return checked(schema, request.doing, await this.call(request))
  }
}

/** `answer` where it has the shape, else a `protocol` fault that names the first difference. */
export function checked<T>(schema: z.ZodType<T>, doing: string, answer: unknown): T {
  const parsed = schema.safeParse(answer)
  if (parsed.success) return parsed.data
  throw new EngineError(
    'protocol',
    `The engine answered in an unknown form while ${doing}: ${z.prettifyError(parsed.error)}`,
  )
}
