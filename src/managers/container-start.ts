import { setTimeout as sleep } from 'node:timers/promises'
import type { ContainerState, Engine } from '../engine/engine.ts'
import { EngineError, isEngineFault } from '../errors.ts'

const TRIES = 3
/** For an engine that is away. */
const AWAY_MS = 60_000
/** Between two questions to an engine that goes away again. */
const RETRY_MS = 200

type StartingEngine = Pick<Engine, 'containers' | 'availability' | 'remembersMaking'>

/**
 * Starts a container, once: where the engine's answer is missing, it is asked what became of it. False
 * where that was so; what was attached to the container before may have been cut off with the answer.
 * An engine that was killed meanwhile cannot tell: that is `unavailable`, and the container is not started again.
 */
export async function startOnce(engine: StartingEngine, containerId: string, signal: AbortSignal): Promise<boolean> {
  for (let attempt = 1; ; attempt++) {
    try {
      await engine.containers.start(containerId)
      return attempt === 1
    } catch (error) {
      // What a start that broke off has left behind is no fault of the command.
      if (attempt > 1 && isEngineFault(error, 'start_failed', 'conflict', 'failed')) {
        throw new EngineError('unavailable', `The engine stopped while it started the container: ${error.message}`, {
          cause: error,
        })
      }
      if (!isEngineFault(error, 'unavailable', 'deadline')) throw error
      const begun = attempt === TRIES ? undefined : await askWhetherBegun(engine, containerId, signal)
      if (begun === true) return false
      if (begun === false) continue
      signal.throwIfAborted()
      throw new EngineError(
        'unavailable',
        `The engine was lost while it started the container, and whether the process began is not known: ${error.message}`,
        { cause: error, hint: 'See whether the command did its work before you run it again.' },
      )
    }
  }
}

/** True where its process began, by the engine's word. One that was killed meanwhile may have kept no time of it. */
export function hasBegun({ startedAt, finishedAt, status }: ContainerState): boolean {
  return startedAt !== undefined || finishedAt !== undefined || status === 'running' || status === 'paused'
}

/** Undefined where the engine does not know, or does not come back in time. */
async function askWhetherBegun(
  engine: StartingEngine,
  containerId: string,
  signal: AbortSignal,
): Promise<boolean | undefined> {
  const patience = AbortSignal.any([signal, AbortSignal.timeout(AWAY_MS)])
  while (!patience.aborted) {
    try {
      await engine.availability.restored(patience)
      const state = await engine.containers.inspect(containerId)
      // What is gone cannot be started again: that tells.
      if (state === undefined) return false
      if (hasBegun(state)) return true
      return (await engine.remembersMaking(state)) ? false : undefined
    } catch (error) {
      // An engine that was killed takes a moment to be known as away.
      if (!patience.aborted && !isEngineFault(error, 'unavailable', 'deadline')) throw error
    }
    await sleep(RETRY_MS, undefined, { signal: patience }).catch(() => {})
  }
  return undefined
}
