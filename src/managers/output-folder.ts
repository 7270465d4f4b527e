import { lstat } from 'node:fs/promises'
import type { Containers, MountedPath } from '../engine/engine.ts'
import { OUTPUT_FOLDER } from './writable-folders.ts'

/** What `/output` of a container looks like, to be compared with later; undefined where there is none. */
export type OutputLook = string | undefined

/** Of a volume that the engine made for a container alone. Others may be mounted on the host only while they are in use. */
const ANONYMOUS = /^[0-9a-f]{64}$/

/**
 * Looks at `/output` of containers from outside: at the folder of its anonymous volume where this process has
 * the engine's files, as root on its host does, and by the engine otherwise, which mounts the container's
 * files for it.
 */
export class OutputFolder {
  readonly #containers: Pick<Containers, 'inspect' | 'statPath'>
  /** The engine's files are here; undefined as long as none was looked for. */
  #isHere: boolean | undefined

  constructor(containers: Pick<Containers, 'inspect' | 'statPath'>) {
    this.#containers = containers
  }

  /** `mounts` are the container's, where they are known. */
  async look(containerId: string, mounts?: readonly MountedPath[]): Promise<OutputLook> {
    if (this.#isHere !== false) {
      const known = mounts ?? (await this.#containers.inspect(containerId))?.mounts ?? []
      const volume = known.find(({ target, volume = '' }) => target === OUTPUT_FOLDER && ANONYMOUS.test(volume))
      const look = volume && (await this.#onHost(volume.source))
      if (look !== undefined) return look
    }
    const stat = await this.#containers.statPath(containerId, OUTPUT_FOLDER)
    return stat && String(stat.modifiedAt.getTime())
  }

  async #onHost(folder: string): Promise<OutputLook> {
    try {
      const { ino, mtimeNs } = await lstat(folder, { bigint: true })
      this.#isHere = true
      return `${ino} ${mtimeNs}`
    } catch {
      // One that has gone meanwhile says nothing of the others.
      this.#isHere ??= false
      return undefined
    }
  }
}
