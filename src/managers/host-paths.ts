import { readFile } from 'node:fs/promises'
import { posix } from 'node:path'
import type { Containers, MountedPath } from '../engine/engine.ts'
import { AppError } from '../errors.ts'
import { isBeneath } from '../policy/volumes.ts'

const MOUNT_INFO = '/proc/self/mountinfo'
/** The engine mounts a container's own hostname file over /etc/hostname. */
const OWN_CONTAINER = /\/containers\/([0-9a-f]{64})\/hostname /

/**
 * Paths as this service sees them, and as the engine's host does. They are the same where the service
 * runs on that host; in a container they are apart, and its own mounts say how.
 */
export class HostPaths {
  readonly #mounts: readonly MountedPath[] | undefined

  /** `mounts` are those of the container that the service runs in, undefined outside of one. */
  constructor(mounts?: readonly MountedPath[]) {
    this.#mounts = mounts
  }

  /** Asks the engine about the container that this process runs in, if it is one of that engine's. */
  static async detect(containers: Containers, mountInfo = MOUNT_INFO): Promise<HostPaths> {
    const table = await readFile(mountInfo, 'utf8').catch(() => '')
    const own = OWN_CONTAINER.exec(table)?.[1]
    const state = own === undefined ? undefined : await containers.inspect(own)
    return new HostPaths(state?.mounts)
  }

  /** The engine's name for a path of ours; `validation_failed` where the engine cannot reach it. */
  toEngine(path: string): string {
    if (this.#mounts === undefined) return path
    const mount = longest(
      this.#mounts,
      ({ target }) => isBeneath(path, target),
      ({ target }) => target,
    )
    if (mount !== undefined) return posix.join(mount.source, posix.relative(mount.target, path))
    throw new AppError('validation_failed', `"${path}" lies inside the service's own container`, {
      hint: 'Only folders that are mounted into the service can be mounted into others.',
    })
  }

  /** Our name for a path of the engine's host; the path itself where none of our mounts shows it. */
  toLocal(path: string): string {
    if (this.#mounts === undefined) return path
    const mount = longest(
      this.#mounts,
      ({ source }) => source !== '' && isBeneath(path, source),
      ({ source }) => source,
    )
    return mount === undefined ? path : posix.join(mount.target, posix.relative(mount.source, path))
  }
}

function longest(
  mounts: readonly MountedPath[],
  holds: (mount: MountedPath) => boolean,
  prefix: (mount: MountedPath) => string,
): MountedPath | undefined {
  return mounts.filter(holds).toSorted((a, b) => prefix(b).length - prefix(a).length)[0]
}
