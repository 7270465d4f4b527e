import { z } from 'zod'
import { isEngineFault } from '../../errors.ts'
import type { Labels } from '../../labels.ts'
import type { VolumeState, Volumes } from '../engine.ts'
import type { ControlClient } from './control-client.ts'
import { carries, labelFilter } from './docker-containers.ts'
import { requireSame } from './ids.ts'
import { Instant } from './state.ts'

const VolumeDetails = z.looseObject({
  Name: z.string().min(1),
  CreatedAt: Instant.nullish(),
  Labels: z.record(z.string(), z.string()).nullish(),
  Mountpoint: z.string().nullish(),
})
// Null where there are none; what lacks the field is no list.
const VolumeList = z.looseObject({ Volumes: z.array(VolumeDetails).nullable() })

export class DockerVolumes implements Volumes {
  readonly #control: ControlClient

  constructor(control: ControlClient) {
    this.#control = control
  }

  async create(name: string, labels: Labels): Promise<void> {
    const doing = `creating volume ${name}`
    const { Name } = await this.#control.read(VolumeDetails, {
      doing,
      method: 'POST',
      path: '/volumes/create',
      body: { Name: name, Driver: 'local', Labels: { ...labels } },
    })
    requireSame(name, Name, doing)
  }

  async inspect(name: string): Promise<VolumeState | undefined> {
    const doing = `inspecting volume ${name}`
    try {
      const path = `/volumes/${encodeURIComponent(name)}`
      const details = await this.#control.read(VolumeDetails, { doing, method: 'GET', path })
      requireSame(name, details.Name, doing)
      return stateOf(details)
    } catch (error) {
      if (isEngineFault(error, 'not_found')) return undefined
      throw error
    }
  }

  async list(labels: Labels): Promise<VolumeState[]> {
    const { Volumes } = await this.#control.read(VolumeList, {
      doing: 'listing volumes',
      method: 'GET',
      path: '/volumes',
      query: { filters: labelFilter(labels) },
    })
    return (Volumes ?? []).map(stateOf).filter((volume) => carries(volume.labels, labels))
  }

  async remove(name: string): Promise<boolean> {
    try {
      await this.#control.call({
        doing: `removing volume ${name}`,
        method: 'DELETE',
        path: `/volumes/${encodeURIComponent(name)}`,
      })
      return true
    } catch (error) {
      if (isEngineFault(error, 'not_found')) return false
      throw error
    }
  }
}

function stateOf(details: z.infer<typeof VolumeDetails>): VolumeState {
  return {
    name: details.Name,
    labels: details.Labels ?? {},
    createdAt: new Date(details.CreatedAt ?? 0),
    ...(details.Mountpoint ? { mountpoint: details.Mountpoint } : {}),
  }
}
