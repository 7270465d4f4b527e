import { describe, expect, it } from 'vitest'
import type { EngineInfo } from '../../../src/engine/engine.ts'
import { requireCores } from '../../../src/managers/host-limits.ts'

const host = (cores: number) => ({ cores }) as EngineInfo

describe('requireCores', () => {
  it.each([
    [8, 8],
    [8, 0.5],
    [1, 2],
  ])('lets pass on %i cores: %d', (cores, asked) => {
    expect(() => requireCores(host(cores), asked, 'cpu_limit')).not.toThrow()
  })

  it.each([
    [8, 8.1],
    [1, 2.1],
  ])('refuses on %i cores: %d, with the path', (cores, asked) => {
    expect(() => requireCores(host(cores), asked, 'resource_limits.cpu_limit')).toThrow(
      `resource_limits.cpu_limit: the host has ${cores} cores`,
    )
  })
})
