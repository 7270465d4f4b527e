/** Whether an attachment ended with its process, or before it: pure. */
import type { HalfCloseWatch } from '../engine/half-close.ts'

/** The end of the output and the news of the end of the process come so close to each other. */
const TOGETHER_MS = 150
/** Output that comes to its end so long after its process did not end before it: no busy machine reads it as late. */
const CLEARLY_AFTER_MS = 500
/** What an engine still has to pass on when a process ends takes so long at most; beyond, the clocks do not agree. */
const AFTER_MS = 3_000

/** In milliseconds: by this host's clock, and by `performance.now()`. */
export interface Moment {
  at: number
  elapsed: number
}

export function now(): Moment {
  return { at: Date.now(), elapsed: performance.now() }
}

/** What is known of the end of an attachment's process besides. */
export interface ProcessEnd {
  /** By the engine's clock. */
  finishedAt: Date | undefined
  /** Of the attachment's connection, where it is watched. */
  halfClose: HalfCloseWatch | undefined
}

/** True where an attachment that ended at a moment may have ended before its process, which is known to have ended now. */
export function mayBeCutOff({ at, elapsed }: Moment, { finishedAt, halfClose }: ProcessEnd): boolean {
  const behind = finishedAt === undefined ? Number.NaN : at - finishedAt.getTime()
  const isBehind = (milliseconds: number) => behind >= milliseconds && behind <= AFTER_MS
  // An engine may take longer to take a container down than its output takes to end.
  if (!isBehind(-TOGETHER_MS) && performance.now() - elapsed > TOGETHER_MS) return true
  return !isBehind(CLEARLY_AFTER_MS) && halfClose?.isDoubtful(elapsed) === true
}
