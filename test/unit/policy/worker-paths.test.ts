import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { boundaryOf, requireOpen, workerPath } from '../../../src/policy/worker-paths.ts'
import { thrown } from '../support/streams.ts'

describe('workerPath', () => {
  it.each([
    ['a.txt', '/workspace/a.txt'],
    ['src/a.txt', '/workspace/src/a.txt'],
    ['workspace', '/workspace'],
    ['workspace/a.txt', '/workspace/a.txt'],
    ['workspaces/a.txt', '/workspace/workspaces/a.txt'],
    ['/workspace/a.txt', '/workspace/a.txt'],
    ['/tmp/a.txt', '/tmp/a.txt'],
    ['tmp/a.txt', '/workspace/tmp/a.txt'],
    ['proc/cpuinfo', '/workspace/proc/cpuinfo'],
    ['', '/workspace'],
    ['src/', '/workspace/src'],
    ['src//a', '/workspace/src/a'],
    ['//tmp///a/', '/tmp/a'],
    ['/', '/'],
    ['.hidden', '/workspace/.hidden'],
    ['..hidden', '/workspace/..hidden'],
    ['a..b/...', '/workspace/a..b/...'],
    ['a b/ä', '/workspace/a b/ä'],
    ['/home/dev/x', '/home/dev/x'],
    ['/run/workers', '/run/workers'],
    ['/process', '/process'],
  ])('takes %j for %s', (given, path) => {
    expect(workerPath(given)).toBe(path)
  })

  it.each(['..', '.', '../a', 'a/..', 'a/../b', '/workspace/../etc', './a', 'a/./b', '/.', '/..', 'a\0b', '/tmp/\0'])(
    'refuses %j',
    (given) => {
      expect(thrown(() => workerPath(given))).toMatchObject({
        code: 'validation_failed',
        message: expect.stringMatching(/^path: (use a path of at most 1024|"\." and "\.\." are not allowed)/),
        details: { errors: [{ path: 'path', message: expect.stringMatching(/^(use|"\.")/) }] },
      })
    },
  )

  it('has a length that it takes, and one that it does not', () => {
    expect(workerPath(`/${'x'.repeat(1023)}`)).toHaveLength(1024)
    expect(thrown(() => workerPath(`/${'x'.repeat(1024)}`))).toMatchObject({ code: 'validation_failed' })
  })

  it.each([
    '/proc',
    '/proc/1/environ',
    '//proc/1/environ',
    '/proc//1/',
    '/sys/kernel',
    '/dev/shm/a',
    '/.toolbox/busybox',
    '/run/worker',
    '/run/worker/environment',
    '//run//worker//git-token',
  ])('denies %s', (given) => {
    expect(thrown(() => workerPath(given))).toMatchObject({
      code: 'policy_denied',
      message: expect.stringMatching(/^Files in \/[^ ]+ are not read or written$/),
      details: { rule: 'file_path' },
    })
  })

  it('gives a clean absolute path that is open, or none, whatever it is given', () => {
    const part = fc.constantFrom('', '.', '..', 'workspace', 'proc', 'run', 'worker', 'dev', 'a', '.toolbox', '~')
    fc.assert(
      fc.property(fc.array(part, { maxLength: 8 }), (parts) => {
        let path: string
        try {
          path = workerPath(parts.join('/'))
        } catch (error) {
          expect(['validation_failed', 'policy_denied']).toContain((error as { code: string }).code)
          return
        }
        expect(path).toMatch(/^(\/|(\/(?!\.\.?(\/|$))[^/]+)+)$/)
        expect(path).not.toMatch(/^\/(proc|sys|dev|\.toolbox|run\/worker)(\/|$)/)
        // One place has one spelling.
        expect(workerPath(path)).toBe(path)
      }),
      { numRuns: 1000 },
    )
  })
})

describe('requireOpen', () => {
  it('passes what belongs to the worker', () => {
    expect(requireOpen('/workspace/a')).toBeUndefined()
    expect(requireOpen('/run')).toBeUndefined()
    expect(requireOpen('/')).toBeUndefined()
  })

  it('denies the rest, also where a symlink led there', () => {
    const error = thrown(() => requireOpen('/run/worker/git-token'))
    expect(error).toMatchObject({ code: 'policy_denied', message: expect.stringContaining('/run/worker') })
  })
})

describe('boundaryOf', () => {
  it.each([
    ['/workspace', '/workspace'],
    ['/workspace/a/b', '/workspace'],
    ['/workspaces/a', '/workspaces'],
    ['/tmp/a/b', '/tmp'],
    ['/home/dev/.config', '/home'],
    ['/etc', '/etc'],
    ['/', '/'],
  ])('of %s is %s', (path, boundary) => {
    expect(boundaryOf(path)).toBe(boundary)
  })
})
