/**
 * Preloaded into a service (`node --import`): its wall clock runs ahead of the real one, or behind it, by the
 * milliseconds in the file that FAULTS_CLOCK names. Timers and `performance` go on as they are, as they
 * do when a host's clock is set.
 */
import crypto from 'node:crypto'
import { readFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

const POLL_MS = 10

const file = process.env['FAULTS_CLOCK']
const RealDate = Date
let offset = 0

function look(): void {
  try {
    offset = Number(readFileSync(file ?? '', 'utf8'))
  } catch {
    // Not written yet.
  }
}

if (file !== undefined) {
  look()
  setInterval(look, POLL_MS).unref()
  const now = () => RealDate.now() + offset
  globalThis.Date = new Proxy(RealDate, {
    construct: (target, given, asked) =>
      Reflect.construct(target, given.length === 0 ? [now()] : given, asked) as object,
    apply: () => new RealDate(now()).toString(),
    get: (target, name, receiver) => (name === 'now' ? now : (Reflect.get(target, name, receiver) as unknown)),
  })
  // It reads the system's clock by itself: its first 48 bits are milliseconds since 1970.
  const { randomUUIDv7 } = crypto
  crypto.randomUUIDv7 = (options) => {
    const id = randomUUIDv7(options)
    const hex = (Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16) + offset).toString(16).padStart(12, '0')
    return `${hex.slice(0, 8)}-${hex.slice(8)}${id.slice(13)}` as typeof id
  }
  syncBuiltinESMExports()
}
