import type { FastifyBaseLogger } from 'fastify'

type Line = Parameters<FastifyBaseLogger['info']>
type Child = Parameters<FastifyBaseLogger['child']>

/**
 * A log whose children are such as below. Fastify makes one for each request, and would look each over
 * again for its methods where it came from a factory.
 */
export function withRequestLogs(log: FastifyBaseLogger): FastifyBaseLogger {
  const child = (...child: Child) => new RequestLog(log, ...child)
  return Object.assign(Object.create(log) as FastifyBaseLogger, { child })
}

/** The log of one request, and that of the app above them: each is made where somebody writes to it, which few do. */
class RequestLog implements FastifyBaseLogger {
  readonly #parent: FastifyBaseLogger
  readonly #child: Child
  #made: FastifyBaseLogger | undefined

  constructor(parent: FastifyBaseLogger, ...child: Child) {
    this.#parent = parent
    this.#child = child
  }

  get #log(): FastifyBaseLogger {
    this.#made ??= this.#parent.child(...this.#child)
    return this.#made
  }

  get level(): string {
    return this.#parent.level
  }

  fatal(...line: Line): void {
    this.#log.fatal(...line)
  }

  error(...line: Line): void {
    this.#log.error(...line)
  }

  warn(...line: Line): void {
    this.#log.warn(...line)
  }

  info(...line: Line): void {
    this.#log.info(...line)
  }

  debug(...line: Line): void {
    this.#log.debug(...line)
  }

  trace(...line: Line): void {
    this.#log.trace(...line)
  }

  silent(...line: Line): void {
    this.#log.silent(...line)
  }

  child(...child: Child): FastifyBaseLogger {
    return new RequestLog(this.#log, ...child)
  }
}
