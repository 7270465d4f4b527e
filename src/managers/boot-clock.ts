/** A clock that goes on over restarts of the process, whatever the wall clock is set to: since the host's boot. */
import { readFileSync } from 'node:fs'
import type { StartMoment } from '../store/records.ts'

const NANOSECONDS = 1_000_000n

export function bootMoment(): StartMoment {
  return { boot: bootId(), ms: Number(process.hrtime.bigint() / NANOSECONDS) }
}

/** Milliseconds that have passed since a moment; undefined where the host was started anew since. */
export function elapsedSince({ boot, ms }: StartMoment): number | undefined {
  const now = bootMoment()
  return now.boot === boot ? now.ms - ms : undefined
}

let known: string | undefined

function bootId(): string {
  try {
    known ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    // Not Linux: the moment is this process's alone.
    known ??= `process ${process.pid}`
  }
  return known
}
