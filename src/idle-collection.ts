/** Memory back to the system when nothing happens: V8 by itself keeps for long what it has not collected. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

const LOOK_MS = 2_000
/** So much of one core at most, for so many looks in a row, is idle. */
const IDLE_CPU = 0.01
const IDLE_LOOKS = 4
/** Less is not worth a collection, which stops everything for a tenth of a second. */
const WORTH_BYTES = 16 * 1024 ** 2

export interface IdleCollectionOptions {
  log: { debug(fields: object, message: string): void }
  collect?: () => void
  /** Resident memory, in bytes. */
  resident?: () => number
  /** Microseconds of the processor that were used since the process began. */
  used?: () => number
}

/** Collects once the process has been idle for eight seconds and has grown since the last time. Ends with the answered function. */
export function collectWhenIdle({
  log,
  collect = collectAll,
  resident = () => process.memoryUsage.rss(),
  used = () => {
    const { user, system } = process.cpuUsage()
    return user + system
  },
}: IdleCollectionOptions): () => void {
  let least = resident()
  let lastUsed = used()
  let idleLooks = 0
  const timer = setInterval(() => {
    const now = used()
    idleLooks = now - lastUsed < IDLE_CPU * LOOK_MS * 1_000 ? idleLooks + 1 : 0
    lastUsed = now
    const before = resident()
    if (idleLooks < IDLE_LOOKS || before < least + WORTH_BYTES) return
    collect()
    least = resident()
    lastUsed = used()
    idleLooks = 0
    log.debug({ event: 'memory.collected', before, after: least }, 'memory collected')
  }, LOOK_MS).unref()
  return () => clearInterval(timer)
}

/** V8's most thorough collection. */
export function collectAll(): void {
  collectGarbage ??= exposed()
  collectGarbage({ type: 'major', execution: 'sync', flavor: 'last-resort' })
}

let collectGarbage: NodeJS.GCFunction | undefined

/**
 * V8 gives its function to contexts made while the flag is set. Set for Node's start, or left so, it would
 * make what Node and this service have compiled before of no use: that holds for the same flags alone.
 */
function exposed(): NodeJS.GCFunction {
  setFlagsFromString('--expose-gc')
  try {
    return runInNewContext('gc')
  } finally {
    setFlagsFromString('--no-expose-gc')
  }
}
