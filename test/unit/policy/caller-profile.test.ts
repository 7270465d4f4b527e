import { describe, expect, it } from 'vitest'
import type { CallerLimits } from '../../../src/domain/caller.ts'
import { commonRoots, profileFor } from '../../../src/policy/caller-profile.ts'
import { BUILT_IN_PROFILES, type Profile, SERVICE, STRICT, WORKSPACE } from '../../../src/policy/profiles.ts'
import { thrown } from '../support/streams.ts'

const OPEN: Profile = {
  ...STRICT,
  name: 'open',
  kinds: new Set(['tool']),
  networks: new Set(['none', 'session', 'bridge']),
  images: [['python:*']],
  max: { memoryMegabytes: 2048, cpus: 2 },
  hostRoots: ['/srv/data', '/srv/models'],
  credentials: ['git', 'cloud'],
}
const PROFILES = new Map([...BUILT_IN_PROFILES, OPEN].map((profile) => [profile.name, profile]))

const narrowed = (limits: CallerLimits, name = 'open') => profileFor(PROFILES, 'tool', name, limits)

describe('profileFor', () => {
  it.each([
    ['tool', STRICT],
    ['relic', SERVICE],
    ['worker', WORKSPACE],
  ] as const)('gives a %s its own where none is named', (kind, profile) => {
    expect(profileFor(PROFILES, kind, undefined)).toEqual(profile)
  })

  it('gives the one that is named, as it is where the caller has no limits', () => {
    expect(profileFor(PROFILES, 'tool', 'workspace')).toEqual(WORKSPACE)
    expect(profileFor(PROFILES, 'tool', 'open')).toEqual(OPEN)
  })

  it.each(['root', '__proto__', 'constructor', 'Strict', ''])('denies "%s" and tells what there is', (name) => {
    const error = thrown(() => profileFor(PROFILES, 'tool', name))
    expect(error).toMatchObject({
      code: 'policy_denied',
      details: { rule: 'profile', hint: expect.stringContaining('strict, service, workspace, open') },
    })
    expect((error as Error).message).toContain(`"${name}"`)
  })

  it('denies one of another kind, and does not tell it', () => {
    expect(thrown(() => profileFor(PROFILES, 'relic', 'open'))).toMatchObject({
      message: expect.stringMatching(/"open".*relic/),
      details: { rule: 'profile', hint: expect.not.stringContaining('open') },
    })
  })

  it("denies one that is not the caller's, by name or by default, and tells only the caller's", () => {
    for (const name of [undefined, 'service']) {
      expect(thrown(() => profileFor(PROFILES, 'tool', name, { profiles: ['open', 'ghost'] }))).toMatchObject({
        code: 'policy_denied',
        details: { rule: 'profile', hint: expect.stringMatching(/: open\.$/) },
      })
    }
    expect(profileFor(PROFILES, 'tool', 'open', { profiles: ['open'] })).toEqual(OPEN)
  })

  it('tells a caller who has none for a kind that it starts none', () => {
    expect(thrown(() => profileFor(PROFILES, 'worker', undefined, { profiles: ['open'] }))).toMatchObject({
      details: { rule: 'profile', hint: 'This caller starts no workers.' },
    })
  })
})

describe('the limits of a caller', () => {
  it('take networks away, and never add one', () => {
    expect([...narrowed({ networks: ['session', 'internal', 'bridge', 'host'] }).networks]).toEqual([
      'session',
      'bridge',
    ])
    expect([...narrowed({ networks: [] }).networks]).toEqual([])
    expect(OPEN.networks.size).toBe(3)
  })

  it("have their images allowed beside the profile's: both lists count", () => {
    expect(narrowed({ images: ['*'] }).images).toEqual([['python:*'], ['*']])
    expect(narrowed({ images: [] }, 'strict').images).toEqual([[]])
  })

  it('lower each maximum, raise none, and set those that the profile leaves open', () => {
    const limits = { memoryMegabytes: 512, cpus: 8, timeoutSeconds: 60, sessions: 1, requestsPerMinute: 2 }
    expect(narrowed(limits).max).toEqual({ memoryMegabytes: 512, cpus: 2, timeoutSeconds: 60 })
    expect(narrowed({ pids: 0 }).max).toEqual({ memoryMegabytes: 2048, cpus: 2, pids: 0 })
    expect(narrowed({}).max).toEqual(OPEN.max)
  })

  it('keep the host folders that both allow', () => {
    expect(narrowed({ hostRoots: ['/srv/data/mine', '/srv', '/etc'] }).hostRoots).toEqual([
      '/srv/data/mine',
      '/srv/data',
      '/srv/models',
    ])
    expect(narrowed({ hostRoots: ['/etc'] }).hostRoots).toEqual([])
    expect(narrowed({ hostRoots: ['/home'] }, 'strict').hostRoots).toEqual(['/home'])
  })

  it('keep the credential sets that both allow', () => {
    expect(narrowed({ credentials: ['cloud', 'ssh'] }).credentials).toEqual(['cloud'])
    expect(narrowed({ credentials: ['cloud', 'ssh'] }, 'strict').credentials).toEqual(['cloud', 'ssh'])
    expect(narrowed({ credentials: [] }).credentials).toEqual([])
  })

  it('change nothing else', () => {
    const { networks: _n, images: _i, max: _m, hostRoots: _h, credentials: _c, ...rest } = OPEN
    expect(
      narrowed({ networks: [], images: [], memoryMegabytes: 1, hostRoots: [], credentials: [], runs: 3 }),
    ).toMatchObject(rest)
  })
})

describe('commonRoots', () => {
  it.each([
    [['/a'], ['/a'], ['/a']],
    [['/a/b'], ['/a'], ['/a/b']],
    [['/a'], ['/a/b'], ['/a/b']],
    [['/ab'], ['/a'], []],
    [[], ['/a'], []],
    [
      ['/a', '/b/c'],
      ['/b', '/a/x'],
      ['/b/c', '/a/x'],
    ],
  ])('%j and %j: %j', (some, others, common) => {
    expect(commonRoots(some, others)).toEqual(common)
  })
})
