import { z } from 'zod'
import { isEngineFault } from '../../errors.ts'
import type { Labels } from '../../labels.ts'
import type { NetworkState, Networks } from '../engine.ts'
import type { NetworkSpec } from '../spec.ts'
import type { ControlClient } from './control-client.ts'
import { createNetworkBody, isolationOf } from './create-options.ts'
import { carries, labelFilter } from './docker-containers.ts'
import { FullId, fullId, requireSame } from './ids.ts'
import { Instant } from './state.ts'

const NetworkDetails = z.looseObject({
  Id: FullId,
  Name: z.string().min(1),
  Created: Instant,
  Internal: z.boolean(),
  Options: z.record(z.string(), z.string()).nullish(),
  Labels: z.record(z.string(), z.string()).nullish(),
  IPAM: z
    .looseObject({
      Config: z.array(z.looseObject({ Subnet: z.string().optional(), Gateway: z.string().optional() })).nullish(),
    })
    .nullish(),
  Containers: z.record(z.string(), z.unknown()).nullish(),
})

export class DockerNetworks implements Networks {
  readonly #control: ControlClient

  constructor(control: ControlClient) {
    this.#control = control
  }

  async create(spec: NetworkSpec): Promise<string> {
    const { Id } = await this.#control.read(z.looseObject({ Id: FullId }), {
      doing: `creating network ${spec.name}`,
      method: 'POST',
      path: '/networks/create',
      body: createNetworkBody(spec),
    })
    return Id
  }

  async inspect(id: string): Promise<NetworkState | undefined> {
    const doing = `inspecting network ${id}`
    try {
      const path = `/networks/${fullId(id)}`
      const details = await this.#control.read(NetworkDetails, { doing, method: 'GET', path })
      requireSame(id, details.Id, doing)
      return stateOf(details)
    } catch (error) {
      if (isEngineFault(error, 'not_found')) return undefined
      throw error
    }
  }

  async list(labels: Labels): Promise<NetworkState[]> {
    const items = await this.#control.read(z.array(NetworkDetails), {
      doing: 'listing networks',
      method: 'GET',
      path: '/networks',
      query: Object.keys(labels).length === 0 ? {} : { filters: labelFilter(labels) },
    })
    return items.map(stateOf).filter((network) => carries(network.labels, labels))
  }

  async remove(id: string): Promise<boolean> {
    try {
      await this.#control.call({ doing: `removing network ${id}`, method: 'DELETE', path: `/networks/${fullId(id)}` })
      return true
    } catch (error) {
      if (isEngineFault(error, 'not_found')) return false
      // Before 23, a network with endpoints is refused as 403.
      throw error
    }
  }

  async connect(id: string, containerId: string, aliases: readonly string[]): Promise<void> {
    await this.#control.call({
      doing: `attaching container ${containerId} to network ${id}`,
      method: 'POST',
      path: `/networks/${fullId(id)}/connect`,
      body: { Container: fullId(containerId), EndpointConfig: { Aliases: [...aliases] } },
    })
  }

  async disconnect(id: string, containerId: string): Promise<void> {
    try {
      await this.#control.call({
        doing: `detaching container ${containerId} from network ${id}`,
        method: 'POST',
        path: `/networks/${fullId(id)}/disconnect`,
        body: { Container: fullId(containerId), Force: true },
      })
    } catch (error) {
      const detached = isEngineFault(error, 'not_found') || /is not connected/i.test(String(error))
      if (!detached) throw error
    }
  }
}

function stateOf(details: z.infer<typeof NetworkDetails>): NetworkState {
  const ranges = details.IPAM?.Config ?? []
  return {
    id: details.Id,
    name: details.Name,
    labels: details.Labels ?? {},
    internal: details.Internal,
    isolation: isolationOf(details.Options ?? {}),
    subnets: ranges.flatMap((range) => (range.Subnet ? [range.Subnet] : [])),
    gateway: ranges.find((range) => range.Gateway)?.Gateway,
    createdAt: new Date(details.Created),
    containers: Object.keys(details.Containers ?? {}),
  }
}
