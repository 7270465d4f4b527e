import { describe, expect, it } from 'vitest'
import {
  BUILT_IN_PROFILES,
  requireBuildAllowed,
  requireGpuAllowed,
  requireNetwork,
  requireOpenFiles,
  requireRoot,
  SERVICE,
  STRICT,
  WORKSPACE,
} from '../../../src/policy/profiles.ts'
import { thrown } from '../support/streams.ts'

describe('the built-in profiles', () => {
  it('give tools and workers no capability and no writable root', () => {
    for (const profile of [STRICT, WORKSPACE]) {
      expect(profile).toMatchObject({ readonlyRoot: true, capabilities: [] })
    }
  })

  it('give relics what packaged services need to start, and no raw sockets', () => {
    expect(SERVICE.readonlyRoot).toBe(false)
    expect([...SERVICE.capabilities].sort()).toEqual([
      'CHOWN',
      'DAC_OVERRIDE',
      'FOWNER',
      'KILL',
      'NET_BIND_SERVICE',
      'SETGID',
      'SETUID',
    ])
  })

  it('are for every kind, and give none of them GPUs, a runtime or bounds of their own', () => {
    for (const profile of BUILT_IN_PROFILES) {
      expect([...profile.kinds]).toEqual(['tool', 'relic', 'worker'])
      expect(profile).toMatchObject({ gpu: true, build: true, images: [], max: {} })
      expect(Object.keys(profile)).not.toEqual(expect.arrayContaining(['runtime']))
    }
  })

  it('are of the sizes that the documents tell', () => {
    expect(
      BUILT_IN_PROFILES.map(({ tmpBytes, openFiles, mayWriteRoot }) => [tmpBytes / 1024 ** 2, openFiles, mayWriteRoot]),
    ).toEqual([
      [256, { soft: 1024, hard: 4096 }, false],
      [256, { soft: 4096, hard: 16_384 }, true],
      [1024, { soft: 1024, hard: 2048 }, true],
    ])
  })

  it('let none of them out to the bridge', () => {
    expect(BUILT_IN_PROFILES.map(({ name, networks }) => [name, [...networks].sort()])).toEqual([
      ['strict', ['none', 'session']],
      ['service', ['session']],
      ['workspace', ['internal', 'none', 'session']],
    ])
  })
})

describe('requireNetwork', () => {
  it('passes what the profile allows', () => {
    expect(requireNetwork(STRICT, 'session')).toBeUndefined()
    expect(requireNetwork(WORKSPACE, 'internal')).toBeUndefined()
  })

  it('denies the rest, and tells what would do', () => {
    const error = thrown(() => requireNetwork(STRICT, 'bridge'))
    expect(error).toMatchObject({
      code: 'policy_denied',
      details: { rule: 'network', hint: expect.stringMatching(/none, session.*CO_CONFIG/) },
    })
    expect((error as Error).message).toMatch(/"strict".*"bridge"/)
    expect(thrown(() => requireNetwork(SERVICE, 'none'))).toMatchObject({ code: 'policy_denied' })
  })
})

describe('requireRoot', () => {
  it('passes a read-only root for all', () => {
    for (const profile of BUILT_IN_PROFILES) expect(requireRoot(profile, true)).toBeUndefined()
  })

  it('passes a writable one where the profile says so', () => {
    expect(requireRoot(WORKSPACE, false)).toBeUndefined()
    expect(requireRoot({ ...STRICT, mayWriteRoot: true }, false)).toBeUndefined()
  })

  it('denies it where the profile does not, and tells where else to write', () => {
    expect(thrown(() => requireRoot({ ...WORKSPACE, name: 'sealed', mayWriteRoot: false }, false))).toMatchObject({
      code: 'policy_denied',
      message: expect.stringContaining('"sealed"'),
      details: { rule: 'root_filesystem', hint: expect.stringContaining('/workspace') },
    })
  })
})

describe('requireOpenFiles', () => {
  it.each([64, 2048, 4096, 16_384])('passes %i', (hard) => {
    expect(requireOpenFiles(WORKSPACE, hard)).toBeUndefined()
  })

  it('denies more, and tells the most that there are', () => {
    expect(thrown(() => requireOpenFiles(WORKSPACE, 16_385))).toMatchObject({
      code: 'policy_denied',
      message: expect.stringMatching(/"workspace".*16384/),
      details: { rule: 'open_files', hint: expect.stringContaining('16384') },
    })
  })

  it('passes what a profile has by itself', () => {
    const roomy = { ...WORKSPACE, openFiles: { soft: 1024, hard: 100_000 } }
    expect(requireOpenFiles(roomy, 100_000)).toBeUndefined()
    expect(thrown(() => requireOpenFiles(roomy, 100_001))).toMatchObject({ code: 'policy_denied' })
  })
})

describe('requireGpuAllowed', () => {
  it('passes where the profile has them, and denies them where it has not', () => {
    expect(requireGpuAllowed(STRICT)).toBeUndefined()
    expect(thrown(() => requireGpuAllowed({ ...STRICT, gpu: false }))).toMatchObject({
      code: 'policy_denied',
      message: expect.stringContaining('"strict"'),
      details: { rule: 'gpu', hint: expect.stringContaining('name a profile that allows them') },
    })
  })
})

describe('requireBuildAllowed', () => {
  it('passes where the profile has builds, and denies them where it has not', () => {
    expect(requireBuildAllowed(STRICT)).toBeUndefined()
    expect(thrown(() => requireBuildAllowed({ ...STRICT, build: false }))).toMatchObject({
      code: 'policy_denied',
      message: expect.stringContaining('"strict"'),
      details: { rule: 'build', hint: expect.stringContaining('image') },
    })
  })
})
