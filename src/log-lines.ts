import type { Writable } from 'node:stream'

/** Where log lines go. Those of one turn of the event loop are written together: a write of its own costs more than a line. */
export class LogLines {
  readonly #out: Pick<Writable, 'write'>
  #waiting = ''

  constructor(out: Pick<Writable, 'write'>) {
    this.#out = out
    process.once('exit', () => this.flushSync())
  }

  write(line: string): void {
    if (this.#waiting === '') setImmediate(() => this.flushSync())
    this.#waiting += line
  }

  /** Writes what waits. pino asks for it behind a line that is fatal. */
  flushSync(): void {
    if (this.#waiting === '') return
    const lines = this.#waiting
    this.#waiting = ''
    this.#out.write(lines)
  }
}

/** The time of a line, as pino takes it; lines of one millisecond share it. */
export function lineTime(): string {
  const now = Date.now()
  if (now !== latest.at) latest = { at: now, text: `,"time":"${new Date(now).toISOString()}"` }
  return latest.text
}

let latest = { at: 0, text: '' }
