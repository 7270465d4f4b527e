import { setTimeout as sleep } from 'node:timers/promises'
import type { ContainerState, Containers } from '../engine/engine.ts'
import { isEngineFault } from '../errors.ts'

const RETRY_MS = 500

/**
 * The state of a container once it does not run any more; undefined where it is gone. An engine that
 * is away is waited for until `until` (milliseconds since 1970), since its containers may live on.
 */
export async function untilEnded(
  containers: Containers,
  containerId: string,
  signal: AbortSignal,
  until = Number.POSITIVE_INFINITY,
): Promise<ContainerState | undefined> {
  for (;;) {
    try {
      await containers.wait(containerId, signal)
      const state = await containers.inspect(containerId)
      // This service removes only what has ended: somebody else is removing it, and its end is theirs.
      if (state?.status === 'removing' || state?.status === 'dead') return undefined
      if (state === undefined || (state.status !== 'running' && state.status !== 'paused')) return state
    } catch (error) {
      signal.throwIfAborted()
      if (isEngineFault(error, 'not_found')) return undefined
      if (!isEngineFault(error, 'unavailable', 'deadline') || Date.now() > until) throw error
    }
    await sleep(RETRY_MS, undefined, { signal })
  }
}
