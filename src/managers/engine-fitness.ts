/** Whether an engine can keep what the settings promise: pure, asked once at the start. */
import type { EngineInfo } from '../engine/engine.ts'
import { ConfigError } from '../errors.ts'
import type { Profiles } from '../policy/profiles.ts'

/** A runtime by the name of its containerd shim: engines find it on their path and do not list it. */
const SHIM = /^io\.containerd\.[A-Za-z0-9.-]+\.v\d+$/
/** Closed CVE-2024-21626. */
const SAFE_RUNC = [1, 1, 12]

/** Refuses (`ConfigError`) a profile whose runtime the engine does not have, or would pass over. */
export function requireRuntimes(profiles: Profiles, engine: Pick<EngineInfo, 'name' | 'runtimes'>): void {
  for (const { name, runtime } of profiles.values()) {
    if (runtime === undefined) continue
    const refuse = (why: string) => new ConfigError(`CO_CONFIG: profile "${name}": runtime "${runtime}": ${why}`)
    // Podman answers that it made the container, with its default runtime.
    if (engine.name === 'podman') throw refuse('Podman passes over the runtime that a container asks for')
    if (engine.runtimes.includes(runtime) || SHIM.test(runtime)) continue
    throw refuse(`the engine has ${engine.runtimes.join(', ') || 'none'}`)
  }
}

/** What the operator is told of an engine at the start, in words. */
export function engineWarnings({ runc }: Pick<EngineInfo, 'runc'>): string[] {
  const version = /^(\d+)\.(\d+)\.(\d+)/
    .exec(runc ?? '')
    ?.slice(1)
    .map(Number)
  if (version === undefined || !isBefore(version, SAFE_RUNC)) return []
  return [
    `runc ${runc} is older than ${SAFE_RUNC.join('.')}: a working directory can lead out of a container (CVE-2024-21626), unless your distribution has mended it`,
  ]
}

function isBefore(version: readonly number[], other: readonly number[]): boolean {
  const place = version.findIndex((part, index) => part !== other[index])
  return place !== -1 && (version[place] ?? 0) < (other[place] ?? 0)
}
