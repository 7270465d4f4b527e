import type { Labels } from '../../labels.ts'
import { Availability } from '../availability.ts'
import type { ContainerState, Engine, EngineEvent, EngineInfo } from '../engine.ts'
import { HalfClose } from '../half-close.ts'
import { MemoryContainers } from './memory-containers.ts'
import { MemoryImages } from './memory-images.ts'
import { MemoryNetworks } from './memory-networks.ts'
import { MemoryVolumes } from './memory-volumes.ts'
import { carries, World } from './world.ts'

export interface MemoryEngineOptions {
  /** Images on the engine. */
  images?: readonly string[]
  /** Images that its registry has. */
  pullable?: readonly string[]
  gpu?: boolean
  oneShotStats?: boolean
}

/**
 * An engine without an operating system: for tests that want speed, and for faults that a real one
 * cannot be made to show. Its containers' processes are interpreted (see shell.ts), and it is held to
 * the contract suite that the Docker adapter passes.
 */
export class MemoryEngine implements Engine {
  readonly containers: MemoryContainers
  readonly networks: MemoryNetworks
  readonly images: MemoryImages
  readonly volumes: MemoryVolumes
  /** Set by tests that want an engine to be away. */
  readonly availability = new Availability()
  readonly halfClose = new HalfClose()
  readonly #world = new World()
  readonly #options: MemoryEngineOptions

  constructor(options: MemoryEngineOptions = {}) {
    const { images = ['container-orchestrator/toolbox:1'], pullable = [] } = options
    const world = this.#world
    this.containers = new MemoryContainers(world)
    this.networks = new MemoryNetworks(world)
    this.images = new MemoryImages(world, images, pullable)
    this.volumes = new MemoryVolumes(world)
    this.#options = options
  }

  async connect(): Promise<EngineInfo> {
    const { gpu = false, oneShotStats = true } = this.#options
    return {
      name: 'memory',
      version: '1',
      apiVersion: '1.41',
      os: 'linux',
      arch: 'amd64',
      kernel: 'none',
      cores: 2,
      memoryBytes: 8 * 1024 ** 3,
      storageDriver: 'memory',
      dataRoot: '',
      runtimes: ['memory'],
      capabilities: { gpu, oomFlag: true, oneShotStats, isolation: 'inhibit_ipv4' },
    }
  }

  async ping(): Promise<void> {
    this.availability.require('pinging')
  }

  async events(labels: Labels, signal: AbortSignal): Promise<AsyncIterable<EngineEvent>> {
    this.availability.require('following events')
    return this.#world.events.follow((carried) => carries(carried, labels), signal)
  }

  async remembersMaking({ id }: Pick<ContainerState, 'id'>): Promise<boolean> {
    return (await this.containers.inspect(id)) !== undefined
  }

  async close(): Promise<void> {}
}
