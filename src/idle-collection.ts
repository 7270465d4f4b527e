/** Memory back to the system when nothing happens: V8 by itself keeps for long what it has not collected. */
import { collectAll } from './garbage.ts'

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

/**
 * Collects once the process has been idle for eight seconds: what its start left, and from then on where it has
 * grown since the last time. Ends with the answered function.
 */
export function collectWhenIdle({
  log,
  collect = collectAll,
  resident = () => process.memoryUsage.rss(),
  used = () => {
    const { user, system } = process.cpuUsage()
    return user + system
  },
}: IdleCollectionOptions): () => void {
  /** Since the last collection; none of it counts before the first. */
  let least = 0
  let lastUsed = used()
  let idleLooks = 0
  const timer = setInterval(() => {
    const now = used()
    idleLooks = now - lastUsed < IDLE_CPU * LOOK_MS * 1_000 ? idleLooks + 1 : 0
    lastUsed = now
    const before = resident()
    least = Math.min(least, before)
    if (idleLooks < IDLE_LOOKS || before < least + WORTH_BYTES) return
    collect()
    least = resident()
    lastUsed = used()
    idleLooks = 0
    log.debug({ event: 'memory.collected', before, after: least }, 'memory collected')
  }, LOOK_MS).unref()
  return () => clearInterval(timer)
}
