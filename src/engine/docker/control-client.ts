/**
 * Calls that answer once: dockerode's modem with a deadline on each. It is dialled directly, since
 * dockerode's own methods put options such as the abort signal into the body that they send, and for
 * the bare response, since its own reading of one never settles where the connection breaks off.
 */
import type { IncomingMessage } from 'node:http'
import type Dockerode from 'dockerode'
import { z } from 'zod'
import { EngineError } from '../../errors.ts'
import type { Breaker } from './breaker.ts'
import { refusal, translate } from './faults.ts'

const DEADLINE_MS = 30_000
/** The modem calls back with the response, whatever its status. */
const ANY_STATUS = new Proxy<Record<number, true>>({}, { get: () => true })

export interface ControlRequest {
  /** What the caller is about, for messages: "creating container x". */
  doing: string
  method: 'GET' | 'POST' | 'DELETE' | 'HEAD'
  path: string
  query?: Record<string, string>
  /** Built from typed fields alone, never from a caller's object. */
  body?: object
  deadlineMs?: number
  /** A 304 says that the goal is reached already; otherwise it is no answer. */
  mayBeDone?: boolean
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
    return this.#breaker.guard(request.doing, (lost) => this.probe(request, lost))
  }

  /** As `call`, whatever the breaker says. */
  async probe(request: ControlRequest, lost?: AbortSignal): Promise<unknown> {
    const { doing } = request
    try {
      const { status, text } = await this.#exchange(request, lost)
      const answer = parsed(text)
      if ([200, 201, 202, 204].includes(status) || (status === 304 && request.mayBeDone)) return answer
      const message = typeof answer === 'object' && answer !== null && 'message' in answer ? answer.message : undefined
      if (typeof message === 'string') throw refusal(doing, status, message)
      // "It is not there" is believed in the engine's own form only: a proxy has its own 404.
      const told = `status ${status} without a message`
      if (status === 404) throw new EngineError('protocol', `The engine answered ${told} while ${doing}`)
      throw refusal(doing, status, told)
    } catch (error) {
      throw translate(doing, error)
    }
  }

  /** As `call`, with the answer's shape checked: a daemon that sends another one is a `protocol` fault. */
  async read<T>(schema: z.ZodType<T>, request: ControlRequest): Promise<T> {
    return checked(schema, request.doing, await this.call(request))
  }

  #exchange(request: ControlRequest, lost?: AbortSignal): Promise<{ status: number; text: string }> {
    const query = new URLSearchParams(request.query).toString()
    const timeout = AbortSignal.timeout(Math.ceil(request.deadlineMs ?? DEADLINE_MS))
    const deadline = lost === undefined ? timeout : AbortSignal.any([timeout, lost])
    // The modem appends `_query` behind a "?", and sends `_body`; both given, it adds nothing of its own.
    const dial = {
      path: `${request.path}?${query}`,
      method: request.method,
      options: { _query: {}, _body: request.body ?? {} },
      abortSignal: deadline,
      isStream: true,
      statusCodes: ANY_STATUS,
    }
    return new Promise((resolve, reject) => {
      // An answer that Node drops, such as an upgrade that nobody asked for, is no event of the request.
      deadline.addEventListener('abort', () => reject(deadline.reason), { once: true })
      this.#docker.modem.dial(dial, (error: unknown, answer: unknown) => {
        if (error) reject(error)
        else whole(answer as IncomingMessage, deadline).then(resolve, reject)
      })
    })
  }
}

async function whole(answer: IncomingMessage, deadline: AbortSignal): Promise<{ status: number; text: string }> {
  const abort = () => answer.destroy(deadline.reason)
  deadline.addEventListener('abort', abort, { once: true })
  try {
    const parts: Buffer[] = []
    for await (const part of answer) parts.push(part as Buffer)
    return { status: answer.statusCode ?? 0, text: Buffer.concat(parts).toString('utf8') }
  } finally {
    deadline.removeEventListener('abort', abort)
  }
}

/** The value of an answer's JSON; its text where it is none, null where there is none. */
function parsed(text: string): unknown {
  if (text.trim() === '') return null
  try {
    return JSON.parse(text)
  } catch {
    return text
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
