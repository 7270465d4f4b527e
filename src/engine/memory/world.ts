/** What the parts of the in-memory engine share: images, networks and volumes, and who uses them. */
import { randomBytes } from 'node:crypto'
import { EngineError } from '../../errors.ts'
import type { Labels } from '../../labels.ts'
import type { ImageInfo } from '../engine.ts'
import type { NetworkSpec } from '../spec.ts'
import { ChangeLog, EventLog } from './event-log.ts'
import type { FileTree } from './files.ts'

const FULL_ID = /^[0-9a-f]{64}$/

export function newId(): string {
  return randomBytes(32).toString('hex')
}

export function fullId(id: string): string {
  if (FULL_ID.test(id)) return id
  throw new EngineError('invalid', `"${id.slice(0, 80)}" is not a full id of 64 hex digits`)
}

export function carries(actual: Labels, wanted: Labels): boolean {
  return Object.entries(wanted).every(([name, value]) => actual[name] === value)
}

export type MemoryImage = ImageInfo

export interface MemoryNetwork {
  id: string
  spec: NetworkSpec
  gateway: string
  createdAt: Date
  /** Addresses of the containers that run in it, by container id. */
  endpoints: Map<string, string>
}

export interface MemoryVolume {
  labels: Labels
  createdAt: Date
  tree: FileTree
  /** The container that an anonymous volume goes with. */
  ownedBy?: string
}

/** Where a volume would be on the engine's host. */
export function mountpointOf(volume: string): string {
  return `/volumes/${volume}`
}

export class World {
  /** By id. */
  readonly images = new Map<string, MemoryImage>()
  /** Ids by reference. */
  readonly tags = new Map<string, string>()
  readonly networks = new Map<string, MemoryNetwork>()
  /** Networks that containers are in, that which they were made for first, by container id. */
  readonly joined = new Map<string, Set<string>>()
  /** Ids of the containers that run. */
  readonly running = new Set<string>()
  readonly volumes = new Map<string, MemoryVolume>()
  /** Volume names in use, by the containers that mount them. */
  readonly mounts = new Map<string, Set<string>>()
  readonly events = new EventLog()
  readonly imageChanges = new ChangeLog()

  addImage(reference: string, image: Omit<MemoryImage, 'id' | 'createdAt'>): string {
    const id = `sha256:${newId()}`
    this.images.set(id, { ...image, id, createdAt: new Date() })
    this.tags.set(reference, id)
    this.imageChanges.tell()
    return id
  }

  /** The files of a volume, which is made where it is missing, as an engine does for a mount. */
  volumeTree(name: string, ownedBy?: string): FileTree {
    let volume = this.volumes.get(name)
    if (volume === undefined) {
      volume = { labels: {}, createdAt: new Date(), tree: new Map(), ...(ownedBy === undefined ? {} : { ownedBy }) }
      this.volumes.set(name, volume)
    }
    return volume.tree
  }

  /** A file of the engine's host, which has those of volumes alone. */
  hostFile(path: string): FileTree {
    for (const [name, { tree }] of this.volumes) {
      const file = tree.get(path.slice(mountpointOf(name).length + 1))
      if (path.startsWith(`${mountpointOf(name)}/`) && file !== undefined) return new Map([['', file]])
    }
    throw new EngineError('invalid', `bind source path does not exist: ${path}`)
  }

  use(containerId: string, volumes: readonly string[]): void {
    for (const name of volumes) this.mounts.set(name, (this.mounts.get(name) ?? new Set()).add(containerId))
  }

  /** A container is gone: its anonymous volumes go with it, and it uses no other any more. */
  release(containerId: string): void {
    for (const users of this.mounts.values()) users.delete(containerId)
    for (const [name, volume] of this.volumes) if (volume.ownedBy === containerId) this.volumes.delete(name)
  }

  /** Gives a container its address in a network. */
  attach(networkId: string, containerId: string): string {
    const network = this.networks.get(networkId)
    if (network === undefined) throw new EngineError('start_failed', `network ${networkId} not found`)
    const prefix = network.gateway.split('.').slice(0, 3).join('.')
    const first = Number(network.gateway.split('.')[3])
    const address = `${prefix}.${first + 1 + network.endpoints.size}`
    network.endpoints.set(containerId, address)
    return address
  }

  detach(networkId: string, containerId: string): void {
    this.joined.get(containerId)?.delete(networkId)
    this.networks.get(networkId)?.endpoints.delete(containerId)
  }
}
