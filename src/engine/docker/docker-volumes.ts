import { z } from 'zod'
import { isEngineFault } from '../../errors.ts'
import type { Labels } from '../../labels.ts'
import type { VolumeState, Volumes } from '../engine.ts'
import type { ControlClient } from './control-client.ts'
import { carries, labelFilter } from './docker-containers.ts'

const VolumeDetails = z.looseObject({
  Name: z.string(),
  CreatedAt: z.string().nullish(),
  Labels: z.record(z.string(), z.string()).nullish(),
})
const VolumeList = z.looseObject({ Volumes: z.array(VolumeDetails).nullish() })

export class DockerVolumes implements Volumes {
  readonly #control: ControlClient

  constructor(control: ControlClient) {
    this.#control = control
  }

  async create(name: string, labels: Labels): Promise<void> {
    await this.#control.call({
      doing: `creating volume ${name}`,
      method: 'POST',
      path: '/volumes/create',
      body: { Name: name, Driver: 'local', Labels: { ...labels } },
    })
  }

  async inspect(name: string): Promise<VolumeState | undefined> {
    try {
      const details = await this.#control.read(VolumeDetails, {
        doing: `inspecting volume ${name}`,
        method: 'GET',
        path: `/volumes/${encodeURIComponent(name)}`,
      })
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
  return { name: details.Name, labels: details.Labels ?? {}, createdAt: new Date(details.CreatedAt ?? 0) }
}
