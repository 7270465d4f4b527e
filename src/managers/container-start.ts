import type { ContainerState, Engine } from '../engine/engine.ts'
import { EngineError, isEngineFault } from '../errors.ts'

const TRIES = 3
/** For an engine that is away. */
const AWAY_MS = 60_000

/**
 * Starts a container, once: where the engine's answer is missing, it is asked what became of it. False
 * where that was so; what was attached to the container before may have been cut off with the answer.
 * An engine that was killed meanwhile cannot tell: that is `unavailable`, and the container is not started again.
 */
export async function startOnce(
  engine: Pick<Engine, 'containers' | 'availability' | 'remembersMaking'>,
  containerId: string,
  signal: AbortSignal,
): Promise<boolean> {
  const { containers, availability } = engine
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
      const state = await containers.inspect(containerId)
      if (state !== undefined && hasBegun(state)) return false
      if (!(await engine.remembersMaking(containerId))) {
        throw new EngineError(
          'unavailable',
          'The engine was restarted while it started the container, and does not know whether the process began',
          { cause: error, hint: 'See whether the command did its work before you run it again.' },
        )
      }
    }
  }
}

/** True where its process began, by the engine's word. One that was killed meanwhile may have kept no time of it. */
export function hasBegun({ startedAt, status }: Pick<ContainerState, 'startedAt' | 'status'>): boolean {
  return startedAt !== undefined || status === 'running' || status === 'paused'
}
