import { setTimeout as sleep } from 'node:timers/promises'
import type { ContainerState, Containers } from '../engine/engine.ts'
import { isEngineFault } from '../errors.ts'

const RETRY_MS = 500
const WAIT_MS = 60_000

export interface UntilEndedOptions {
  signal: AbortSignal
  /** Until when, by `performance.now()`, an engine that is away is waited for; without end where absent. */
  until?: number
  /** Called each time the connection to the engine turns out to be broken. */
  onInterrupted?: () => void
}

/**
 * The state of a container once it does not run any more; undefined where it is gone. An engine that
 * is away is waited for, since its containers may live on.
 */
export async function untilEnded(
  containers: Containers,
  containerId: string,
  { signal, until = Number.POSITIVE_INFINITY, onInterrupted }: UntilEndedOptions,
): Promise<ContainerState | undefined> {
  for (;;) {
    try {
      const patience = AbortSignal.any([signal, AbortSignal.timeout(WAIT_MS)])
      await containers.wait(containerId, patience).catch((error: unknown) => {
        // A wait that stalls is begun again: only inspect tells the end.
        if (signal.aborted || !patience.aborted) throw error
      })
      const state = await containers.inspect(containerId)
      // This service removes only what has ended: somebody else is removing it, and its end is theirs.
      if (state?.status === 'removing' || state?.status === 'dead') return undefined
      if (state === undefined || (state.status !== 'running' && state.status !== 'paused')) return state
    } catch (error) {
      signal.throwIfAborted()
      if (isEngineFault(error, 'not_found')) return undefined
      // Whatever else went wrong, the container may live on.
      if (performance.now() > until) throw error
      onInterrupted?.()
    }
    await sleep(RETRY_MS, undefined, { signal })
  }
}
