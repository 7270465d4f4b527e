/** What the exit code of a worker means, and what follows from it: pure. */
import type { ExitMeaning } from '../domain/worker-spec.ts'

/** Codes by their usual meaning among agents' workers; a request may replace any of them. */
const DEFAULTS: Readonly<Record<string, ExitMeaning>> = {
  '0': { meaning: 'done', action: 'complete' },
  '1': { meaning: 'error', action: 'restart' },
  '2': { meaning: 'restart', action: 'restart' },
  '3': { meaning: 'blocked', action: 'fail' },
  '130': { meaning: 'stopped', action: 'stop' },
  '143': { meaning: 'stopped', action: 'stop' },
}
const OOM_CODE = '137'
/** A shell tells a signal as 128 and its number. */
const LAST_SIGNAL = 64
/** By convention of shells, init and engine: what could not be started will not start the next time. */
const NOT_STARTED = new Set([125, 126, 127])

export type ExitCodeMap = Readonly<Record<string, ExitMeaning>>

/** `given` is the request's own map. Only the engine's flag, never 137 alone, means out of memory. */
export function exitMeaning(end: { exitCode: number; oomKilled: boolean }, given: ExitCodeMap): ExitMeaning {
  if (end.oomKilled) return given[OOM_CODE] ?? { meaning: 'out of memory', action: 'restart' }
  const code = String(end.exitCode)
  const known = code === OOM_CODE ? undefined : (given[code] ?? DEFAULTS[code])
  if (known !== undefined) return known
  if (NOT_STARTED.has(end.exitCode)) return { meaning: 'not started', action: 'fail' }
  if (end.exitCode > 128 && end.exitCode <= 128 + LAST_SIGNAL) return { meaning: 'killed', action: 'restart' }
  return { meaning: 'failed', action: 'restart' }
}
