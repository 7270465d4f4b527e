/** Collections of V8's heap at times that V8 does not know of. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** The most thorough one, which stops everything for a tenth of a second. */
export function collectAll(): void {
  collector()?.({ type: 'major', execution: 'sync', flavor: 'last-resort' })
}

/** Of what was made last alone, which stops everything for half a millisecond. */
export function collectYoung(): void {
  collector()?.({ type: 'minor', execution: 'sync' })
}

/** Absent as long as it was not asked for. */
let found: { collect: NodeJS.GCFunction | undefined } | undefined

/**
 * V8 gives its function to contexts made while the flag is set. Set for Node's start, or left so, it would
 * make what Node and this service have compiled before of no use: that holds for the same flags alone. A V8
 * that has no such function collects when it wants to.
 */
function collector(): NodeJS.GCFunction | undefined {
  if (found !== undefined) return found.collect
  setFlagsFromString('--expose-gc')
  try {
    found = { collect: runInNewContext('globalThis.gc') as NodeJS.GCFunction | undefined }
    return found.collect
  } finally {
    setFlagsFromString('--no-expose-gc')
  }
}
