import type { Engine } from '../engine/engine.ts'
import { EngineError, isEngineFault } from '../errors.ts'

const TRIES = 3
/** For an engine that is away. */
const AWAY_MS = 60_000

/**
 * Starts a container, once: where the engine's answer is missing, it is asked what became of it. False
 * where that was so; what was attached to the container before may have been cut off with the answer.
 */
export async function startOnce(
  { containers, availability }: Pick<Engine, 'containers' | 'availability'>,
  containerId: string,
  signal: AbortSignal,
): Promise<boolean> {
  for (let attempt = 1; ; attempt++) {
    try {
      await containers.start(containerId)
      return attempt === 1
    } catch (error) {
      // What a start that broke off has left behind is no fault of the command.
      if (attempt > 1 && isEngineFault(error, 'start_failed', 'conflict', 'failed')) {
        throw new EngineError('unavailable', `The engine stopped while it started the container: ${error.message}`, {
          cause: error,
        })
      }
      if (attempt === TRIES || !isEngineFault(error, 'unavailable', 'deadline')) throw error
      const patience = AbortSignal.any([signal, AbortSignal.timeout(AWAY_MS)])
      await availability.restored(patience).catch(() => {
        throw error
      })
      if ((await containers.inspect(containerId))?.startedAt !== undefined) return false
    }
  }
}
