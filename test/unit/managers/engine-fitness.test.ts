import { describe, expect, it } from 'vitest'
import { ConfigError } from '../../../src/errors.ts'
import { engineWarnings, requireRuntimes } from '../../../src/managers/engine-fitness.ts'
import { BUILT_IN_PROFILES, STRICT } from '../../../src/policy/profiles.ts'
import { thrown } from '../support/streams.ts'

const profiles = (runtime: string) =>
  new Map([...BUILT_IN_PROFILES, { ...STRICT, name: 'sandboxed', runtime }].map((profile) => [profile.name, profile]))
const DOCKER = { name: 'docker', runtimes: ['runc', 'runsc'] }

describe('requireRuntimes', () => {
  it('passes runtimes that the engine has, by name or by their shim', () => {
    expect(requireRuntimes(profiles('runsc'), DOCKER)).toBeUndefined()
    expect(requireRuntimes(profiles('io.containerd.kata.v2'), DOCKER)).toBeUndefined()
  })

  it('passes an engine that tells of none where no profile asks for one', () => {
    const none = new Map(BUILT_IN_PROFILES.map((profile) => [profile.name, profile]))
    expect(requireRuntimes(none, { name: 'podman', runtimes: [] })).toBeUndefined()
  })

  it('stops the start by one line where the engine has it not, and where it would pass it over', () => {
    const missing = thrown(() => requireRuntimes(profiles('kata'), DOCKER))
    expect(missing).toBeInstanceOf(ConfigError)
    expect((missing as Error).message).toMatch(/^CO_CONFIG: profile "sandboxed": runtime "kata": .*runc, runsc$/)
    expect(thrown(() => requireRuntimes(profiles('kata'), { name: 'docker', runtimes: [] }))).toMatchObject({
      message: expect.stringMatching(/none$/),
    })
    const ignored = thrown(() => requireRuntimes(profiles('runsc'), { name: 'podman', runtimes: ['runsc'] }))
    expect((ignored as Error).message).toContain('Podman')
  })
})

describe('engineWarnings', () => {
  it.each(['1.1.11', '1.1.5+ds1', '1.0.99', '0.9.0', '1.1.0-rc.1'])('tell of runc %s', (runc) => {
    const [warning, ...more] = engineWarnings({ runc })
    expect(warning).toContain(`runc ${runc} is older than 1.1.12`)
    expect(warning).toContain('CVE-2024-21626')
    expect(more).toEqual([])
  })

  it.each(['1.1.12', '1.2.0', '2.0.0', '1.1.13', 'dev'])('do not of runc %s', (runc) => {
    expect(engineWarnings({ runc })).toEqual([])
  })

  it('do not where the engine tells no version', () => {
    expect(engineWarnings({})).toEqual([])
  })
})
