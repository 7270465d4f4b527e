import { describe, expect, it } from 'vitest'
import { type CredentialSet, credentialsFor, targetIn } from '../../../src/policy/credentials.ts'
import { thrown } from '../support/streams.ts'

const secret = { name: 'TOKEN', value: 'hush-hush', envFile: undefined }
const set = (name: string): CredentialSet => ({ name, environment: { TOKEN: secret }, files: [], git: undefined })
const SETS = new Map(['git', 'cloud'].map((name) => [name, set(name)]))

describe('credentialsFor', () => {
  it('gives the sets that are named, in that order, each once', () => {
    expect(credentialsFor(SETS, ['cloud', 'git', 'cloud'])).toEqual([SETS.get('cloud'), SETS.get('git')])
    expect(credentialsFor(SETS, [])).toEqual([])
  })

  it.each(['aws', 'Git', '', '__proto__', 'constructor'])('denies "%s", tells what there is, and no secret', (name) => {
    const error = thrown(() => credentialsFor(SETS, ['git', name]))
    expect(error).toMatchObject({
      code: 'policy_denied',
      message: expect.stringContaining(`"${name}"`),
      details: { rule: 'credentials', hint: expect.stringContaining('git, cloud') },
    })
    expect(JSON.stringify([(error as Error).message, error])).not.toContain('hush-hush')
  })

  it('denies a set that is not among the allowed, and does not tell it', () => {
    expect(credentialsFor(SETS, ['cloud'], ['cloud', 'ghost'])).toEqual([SETS.get('cloud')])
    for (const name of ['git', 'ghost']) {
      expect(thrown(() => credentialsFor(SETS, [name], ['cloud', 'ghost']))).toMatchObject({
        code: 'policy_denied',
        details: { rule: 'credentials', hint: expect.stringMatching(/: cloud\.$/) },
      })
    }
    expect(thrown(() => credentialsFor(SETS, ['git'], []))).toMatchObject({ details: { rule: 'credentials' } })
  })

  it('tells who could configure one where there is none', () => {
    expect(thrown(() => credentialsFor(new Map(), ['git']))).toMatchObject({
      code: 'policy_denied',
      details: { hint: expect.stringMatching(/operator.*CO_CONFIG/) },
    })
  })
})

describe('targetIn', () => {
  it.each([
    ['~', '/home/dev'],
    ['~/.aws', '/home/dev/.aws'],
    ['~/a/~/b', '/home/dev/a/~/b'],
    ['/etc/app/key', '/etc/app/key'],
    ['/srv/~/x', '/srv/~/x'],
  ])('puts %s at %s', (target, path) => {
    expect(targetIn('/home/dev', target)).toBe(path)
  })
})
