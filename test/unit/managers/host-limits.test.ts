import { describe, expect, it } from 'vitest'
import type { EngineInfo } from '../../../src/engine/engine.ts'
import { requireCores, requireMemory } from '../../../src/managers/host-limits.ts'
import { thrown } from '../support/streams.ts'

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

describe('requireMemory', () => {
  const withMemory = (gigabytes: number) => ({ memoryBytes: gigabytes * 1024 ** 3 }) as EngineInfo

  it.each([
    [8, 8],
    [8, 0.1],
    [1, 4],
  ])('lets pass on %i GB: %d', (gigabytes, asked) => {
    expect(() => requireMemory(withMemory(gigabytes), asked * 1024 ** 3)).not.toThrow()
  })

  it.each([
    [8, 8 * 1024 ** 3 + 1],
    [1, 4 * 1024 ** 3 + 1],
  ])('refuses on %i GB: %d bytes, by its rule', (gigabytes, bytes) => {
    expect(thrown(() => requireMemory(withMemory(gigabytes), bytes))).toMatchObject({
      code: 'policy_denied',
      message: `The host has ${gigabytes * 1024} MB of memory`,
      details: { rule: 'memory', hint: expect.stringContaining(String(gigabytes * 1024)) },
    })
  })
})
