import { EngineError } from '../../errors.ts'
import type { Labels } from '../../labels.ts'
import type { VolumeState, Volumes } from '../engine.ts'
import { carries, type MemoryVolume, mountpointOf, type World } from './world.ts'

export class MemoryVolumes implements Volumes {
  readonly #world: World

  constructor(world: World) {
    this.#world = world
  }

  async create(name: string, labels: Labels): Promise<void> {
    if (!this.#world.volumes.has(name))
      this.#world.volumes.set(name, { labels, createdAt: new Date(), tree: new Map() })
  }

  async inspect(name: string): Promise<VolumeState | undefined> {
    const volume = this.#world.volumes.get(name)
    return volume && stateOf(name, volume)
  }

  async list(labels: Labels): Promise<VolumeState[]> {
    return [...this.#world.volumes]
      .filter(([, volume]) => carries(volume.labels, labels))
      .map(([name, volume]) => stateOf(name, volume))
  }

  async remove(name: string): Promise<boolean> {
    if ((this.#world.mounts.get(name)?.size ?? 0) > 0) throw new EngineError('conflict', `volume ${name} is in use`)
    return this.#world.volumes.delete(name)
  }
}

function stateOf(name: string, { labels, createdAt }: MemoryVolume): VolumeState {
  return { name, labels, createdAt, mountpoint: mountpointOf(name) }
}
