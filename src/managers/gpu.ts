import type { EngineInfo } from '../engine/engine.ts'
import { AppError } from '../errors.ts'
import { type Profile, requireGpuAllowed } from '../policy/profiles.ts'

/** Refuses a request for devices that the engine does not have (`gpu_unavailable`) or the profile does not allow. */
export function requireGpu(engine: EngineInfo, profile: Profile): void {
  if (engine.capabilities.gpu) {
    requireGpuAllowed(profile)
    return
  }
  throw new AppError('gpu_unavailable', 'This engine has no GPU runtime', {
    hint: 'Leave "gpu" out, or have the operator install the NVIDIA container toolkit on the engine\'s host.',
  })
}
