import { describe, expect, it } from 'vitest'
import { requireWithin } from '../../../src/policy/limits.ts'
import { STRICT } from '../../../src/policy/profiles.ts'
import { thrown } from '../support/streams.ts'

const BOUNDED = { ...STRICT, name: 'small', max: { memoryMegabytes: 512, cpus: 1.5, timeoutSeconds: 60, pids: 64 } }

describe('requireWithin', () => {
  it('passes what is within every bound, up to it', () => {
    expect(requireWithin(BOUNDED, { memoryMegabytes: 512, cpus: 1.5, timeoutSeconds: 60, pids: 64 })).toBeUndefined()
    expect(requireWithin(BOUNDED, {})).toBeUndefined()
  })

  it('bounds nothing where the profile does not', () => {
    const asked = { memoryMegabytes: 1e6, cpus: 1e3, timeoutSeconds: 1e5, pids: 1e5 }
    expect(requireWithin(STRICT, asked)).toBeUndefined()
  })

  it.each([
    [{ memoryMegabytes: 513 }, 'memory', '512 MB of memory'],
    [{ cpus: 1.51 }, 'cpus', '1.5 cores'],
    [{ timeoutSeconds: 60.1 }, 'timeout', '60 seconds'],
    [{ pids: 65 }, 'pids', '64 processes'],
  ] as const)('denies %j by the rule "%s", and tells the most and what was asked', (asked, rule, most) => {
    expect(thrown(() => requireWithin(BOUNDED, asked))).toMatchObject({
      code: 'policy_denied',
      message: expect.stringMatching(new RegExp(`"small".* ${most}`)),
      details: { rule, hint: expect.stringContaining(`has ${Object.values(asked)[0]}`) },
    })
  })
})
