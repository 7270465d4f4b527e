/** Calls of a service, each with the time by which it must be answered: what comes later is noted. */
const PATIENCE_MS = 60_000
const MARGIN_MS = 1_000

export interface CallOptions {
  deadlineMs: number
  headers?: Record<string, string>
}

export interface Reply {
  status: number
  headers: Headers
  body: Record<string, unknown>
  milliseconds: number
}

export class Caller {
  readonly url: string
  /** Calls that were answered later than a second after their deadline, or never. */
  readonly late: string[] = []
  /** Answers of 500, which no fault of an engine excuses. */
  readonly broken: string[] = []
  slowestMs = 0
  answers = 0

  constructor(url: string) {
    this.url = url
  }

  get(path: string, options: CallOptions): Promise<Reply | undefined> {
    return this.#call('GET', path, undefined, options)
  }

  post(path: string, body: object, options: CallOptions): Promise<Reply | undefined> {
    return this.#call('POST', path, body, options)
  }

  /** The answer; undefined where the connection broke or none came. */
  async #call(
    method: string,
    path: string,
    body: object | undefined,
    { deadlineMs, headers = {} }: CallOptions,
  ): Promise<Reply | undefined> {
    const began = performance.now()
    const about = `${method} ${path}`
    try {
      const answer = await fetch(this.url + path, {
        method,
        headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(deadlineMs + PATIENCE_MS),
      })
      const text = await answer.text()
      const milliseconds = performance.now() - began
      this.answers += 1
      this.slowestMs = Math.max(this.slowestMs, milliseconds)
      if (milliseconds > deadlineMs + MARGIN_MS) {
        this.late.push(`${about}: ${answer.status} after ${Math.round(milliseconds)} of ${deadlineMs} ms`)
      }
      if (answer.status === 500) this.broken.push(`${about}: ${text}`)
      const parsed: unknown = text.startsWith('{') ? JSON.parse(text) : {}
      return { status: answer.status, headers: answer.headers, body: parsed as Record<string, unknown>, milliseconds }
    } catch (error) {
      const after = `${Math.round(performance.now() - began)} of ${deadlineMs} ms`
      this.late.push(`${about}: ${error instanceof Error ? error.message : error} after ${after}`)
      return undefined
    }
  }
}
