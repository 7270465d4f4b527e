import { createHash } from 'node:crypto'
import { isAbsolute, normalize, sep } from 'node:path'
import type { VolumeMount } from '../domain/common.ts'
import type { MountSpec } from '../engine/spec.ts'
import { AppError } from '../errors.ts'

export interface VolumePolicy {
  /** Host folders that may be mounted, absolute and free of symlinks. */
  allowedHostRoots: readonly string[]
  /** Volumes of the operator's that any session may mount, by their own names. */
  sharedVolumes: readonly string[]
}

const NAMED_VOLUME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/
/** The service's own tools and the kernel's file systems. */
const RESERVED_TARGETS = ['/proc', '/sys', '/dev', '/.toolbox', '/run/worker']

export type VolumeDecision =
  | { type: 'host'; source: string; target: string; readOnly: boolean }
  | { type: 'shared'; source: string; target: string; readOnly: boolean }
  | { type: 'session'; source: string; target: string; readOnly: boolean }

/**
 * What a requested mount is: a host path beneath an allowed root (by its words; whoever mounts it
 * checks for symlinks), a shared volume, or a volume of the session. All else is denied.
 */
export function decideVolume(mount: VolumeMount, policy: VolumePolicy): VolumeDecision {
  const target = withoutTrailingSlash(normalize(mount.target))
  requireMountTarget(target)
  const common = { target, readOnly: mount.read_only }
  if (isAbsolute(mount.source)) {
    const source = withoutTrailingSlash(normalize(mount.source))
    if (policy.allowedHostRoots.some((root) => isBeneath(source, root))) return { type: 'host', source, ...common }
    throw new AppError('policy_denied', `Host path "${mount.source}" is not under a folder that the operator allows`, {
      rule: 'host_path',
      hint: 'CO_ALLOWED_HOST_ROOTS lists the host folders that may be mounted.',
    })
  }
  if (!NAMED_VOLUME.test(mount.source)) {
    throw new AppError(
      'policy_denied',
      `"${mount.source.slice(0, 80)}" is neither a volume's name nor an absolute host path`,
      { rule: 'volume' },
    )
  }
  const type = policy.sharedVolumes.includes(mount.source) ? 'shared' : 'session'
  return { type, source: mount.source, ...common }
}

/** Refuses a mount over the root, the kernel's file systems or the service's own tools. */
export function requireMountTarget(target: string): void {
  if (isMountTarget(target)) return
  throw new AppError('policy_denied', `Nothing can be mounted at "${target}"`, {
    rule: 'mount_target',
    hint: 'Choose a folder of your own, such as /data.',
  })
}

/** False for the root, the kernel's file systems and the service's own tools. */
export function isMountTarget(target: string): boolean {
  return target !== '/' && !RESERVED_TARGETS.some((reserved) => isBeneath(target, reserved))
}

/** True for `root` itself and all that lies in it. */
export function isBeneath(path: string, root: string): boolean {
  const base = withoutTrailingSlash(root)
  return path === base || path.startsWith(base + sep)
}

/** Engine name of a session's volume: no other session, or installation on the engine, can name it. */
export function sessionVolumeName(instance: string, sessionId: string, name: string): string {
  // Both may hold "_": the hash keeps session a_b, volume c apart from session a, volume b_c.
  const hash = createHash('sha256').update(`${instance}\n${sessionId}\n${name}`).digest('hex').slice(0, 8)
  return `volume_${sessionId}_${name}_${hash}`
}

/** Engine name of a volume that is a worker's own, in one installation: others may share the engine. */
export function workerVolumeName(instance: string, workerId: string, name: string): string {
  const hash = createHash('sha256').update(`${instance}\n${workerId}\n${name}`).digest('hex').slice(0, 8)
  return `worker_${workerId}_${name}_${hash}`
}

export function mountOf(decision: VolumeDecision, source: string): MountSpec {
  const { target, readOnly } = decision
  return { type: decision.type === 'host' ? 'bind' : 'volume', source, target, readOnly }
}

function withoutTrailingSlash(path: string): string {
  return path.length > 1 && path.endsWith(sep) ? path.slice(0, -1) : path
}
