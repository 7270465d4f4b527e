import { setTimeout as sleep } from 'node:timers/promises'

const TRIES = 5
const PAUSE_MS = 200

/**
 * Repeats what freezes a container: on cgroup v1 runc gives up on one whose processes are just being
 * forked or scheduled ("unable to freeze"), and leaves it running. Another moment is a better one.
 */
export async function freezing<T>(work: () => Promise<T>, pauseMs = PAUSE_MS): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      if (attempt >= TRIES || !/unable to freeze/i.test(String(error))) throw error
      await sleep(pauseMs * attempt)
    }
  }
}
