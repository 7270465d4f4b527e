const FIRST_MS = 200
const LONGEST_MS = 10_000

/** Milliseconds to wait before a container is started again that was restarted so many times. */
export function restartPause(restarts: number): number {
  return Math.min(FIRST_MS * 2 ** restarts, LONGEST_MS)
}
