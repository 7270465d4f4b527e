import type { EngineInfo } from '../engine/engine.ts'
import { AppError } from '../errors.ts'

/** Refuses (`gpu_unavailable`) a request for devices that the engine does not have. */
export function requireGpu(engine: EngineInfo): void {
  if (engine.capabilities.gpu) return
  throw new AppError('gpu_unavailable', 'This engine has no GPU runtime', {
    hint: 'Leave "gpu" out, or have the operator install the NVIDIA container toolkit on the engine\'s host.',
  })
}
