import { EngineError } from '../../errors.ts'
import type { Labels } from '../../labels.ts'
import type { NetworkState, Networks } from '../engine.ts'
import type { NetworkSpec } from '../spec.ts'
import { carries, fullId, type MemoryNetwork, newId, type World } from './world.ts'

export class MemoryNetworks implements Networks {
  readonly #world: World

  constructor(world: World) {
    this.#world = world
  }

  async create(spec: NetworkSpec): Promise<string> {
    const others = [...this.#world.networks.values()]
    if (others.some((other) => other.spec.name === spec.name)) {
      throw new EngineError('conflict', `network with name ${spec.name} already exists`)
    }
    if (others.some((other) => overlaps(other.spec.subnet, spec.subnet))) {
      throw new EngineError('subnet_overlap', 'Pool overlaps with other one on this address space')
    }
    const id = newId()
    const [first] = rangeOf(spec.subnet)
    this.#world.networks.set(id, { id, spec, gateway: format(first + 1), createdAt: new Date(), endpoints: new Map() })
    return id
  }

  async inspect(id: string): Promise<NetworkState | undefined> {
    const network = this.#world.networks.get(fullId(id))
    return network && { ...stateOf(network), containers: [...network.endpoints.keys()] }
  }

  async list(labels: Labels): Promise<NetworkState[]> {
    return [...this.#world.networks.values()].filter(({ spec }) => carries(spec.labels, labels)).map(stateOf)
  }

  async remove(id: string): Promise<boolean> {
    const network = this.#world.networks.get(fullId(id))
    if (network === undefined) return false
    if (network.endpoints.size > 0)
      throw new EngineError('conflict', `network ${network.spec.name} has active endpoints`)
    return this.#world.networks.delete(id)
  }

  async connect(id: string, containerId: string): Promise<void> {
    const joined = this.#world.joined.get(fullId(containerId)) ?? new Set()
    if (!this.#world.networks.has(fullId(id))) throw new EngineError('not_found', `network ${id} not found`)
    this.#world.joined.set(containerId, joined.add(id))
    if (this.#world.running.has(containerId)) this.#world.attach(id, containerId)
  }

  async disconnect(id: string, containerId: string): Promise<void> {
    this.#world.detach(fullId(id), fullId(containerId))
  }
}

function stateOf({ id, spec, gateway, createdAt }: MemoryNetwork): NetworkState {
  const { name, labels, internal, isolation = 'none', subnet } = spec
  return { id, name, labels, internal, isolation, subnets: [subnet], gateway, createdAt, containers: [] }
}

function rangeOf(cidr: string): [first: number, last: number] {
  const [address = '', prefix] = cidr.split('/')
  const size = 2 ** (32 - Number(prefix))
  const number = address.split('.').reduce((total, part) => total * 256 + Number(part), 0)
  const first = Math.floor(number / size) * size
  return [first, first + size - 1]
}

function overlaps(a: string, b: string): boolean {
  const [firstA, lastA] = rangeOf(a)
  const [firstB, lastB] = rangeOf(b)
  return firstA <= lastB && firstB <= lastA
}

function format(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.')
}
