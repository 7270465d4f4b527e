import { describe, expect, it } from 'vitest'
import { type HeldMount, HostMounts } from '../../../src/managers/host-mounts.ts'

const reads = (source: string, target = `/mnt${source}`): HeldMount => ({ source, target, readOnly: true })
const writes = (source: string, target = `/mnt${source}`): HeldMount => ({ source, target, readOnly: false })

function refusal(work: () => void): { code: string; message: string } | undefined {
  try {
    work()
    return undefined
  } catch (error) {
    return error as { code: string; message: string }
  }
}

/** What becomes of the second of two claims. */
function second(first: readonly HeldMount[], then: readonly HeldMount[]): string | undefined {
  const mounts = new HostMounts()
  mounts.claim('first', first)
  return refusal(() => mounts.claim('second', then))?.code
}

describe('a claim', () => {
  it.each([
    ['something in a folder that another can write to', [writes('/r')], [reads('/r/a')], 'conflict'],
    ['something deep in it', [writes('/r')], [writes('/r/a/b/c')], 'conflict'],
    ['a writable folder in which another has something', [reads('/r/a')], [writes('/r')], 'conflict'],
    ['the root, writable, where another has anything', [reads('/r')], [writes('/')], 'conflict'],
    ['anything, where another can write to the root', [writes('/')], [reads('/r')], 'conflict'],
    ['one bad mount among good ones', [reads('/x'), writes('/r')], [reads('/y'), reads('/r/a')], 'conflict'],
    ['the same folder, writable in both', [writes('/r')], [writes('/r')], undefined],
    ['something in a folder that another can only read', [reads('/r')], [writes('/r/a')], undefined],
    ['a folder to read in which another writes', [writes('/r/a')], [reads('/r')], undefined],
    ['a folder beside', [writes('/r/a')], [writes('/r/b')], undefined],
    ['a folder whose name begins alike', [writes('/r/a')], [writes('/r/ab')], undefined],
  ])('to %s', (_, first, then, code) => {
    expect(second(first, then)).toBe(code)
  })

  it('that is refused leaves nothing claimed', () => {
    const mounts = new HostMounts()
    mounts.claim('first', [writes('/r')])
    expect(refusal(() => mounts.claim('second', [writes('/s'), reads('/r/a')]))).toMatchObject({ code: 'conflict' })
    expect(refusal(() => mounts.claim('third', [reads('/s/a')]))).toBeUndefined()
  })

  it('adds to what its owner has claimed', () => {
    const mounts = new HostMounts()
    mounts.claim('first', [writes('/r')])
    mounts.claim('first', [writes('/s')])
    for (const path of ['/r/a', '/s/a'])
      expect(
        refusal(() => mounts.claim('second', [reads(path)])),
        path,
      ).toMatchObject({ code: 'conflict' })
  })

  it('of a folder and of something in it, writable, is no claim of one container', () => {
    for (const both of [
      [writes('/r', '/one'), reads('/r/a', '/two')],
      [reads('/r/a', '/two'), writes('/r', '/one')],
    ])
      expect(refusal(() => new HostMounts().claim('one', both))).toMatchObject({
        code: 'validation_failed',
        message: expect.stringContaining('"/r/a" lies in "/r", which the container can write to'),
      })
  })

  it('takes a path with a slash at its end for the same', () => {
    expect(second([writes('/r/')], [writes('/r')])).toBeUndefined()
    expect(second([writes('/r')], [writes('/r/')])).toBeUndefined()
    expect(second([writes('/r/')], [reads('/r/a/')])).toBe('conflict')
    expect(refusal(() => new HostMounts().claim('one', [writes('/r/', '/m/'), reads('/r/a', '/m/a')]))).toBeUndefined()
  })

  it('passes over the one whose place it takes, and no other', () => {
    const mounts = new HostMounts()
    mounts.claim('old', [writes('/r')])
    mounts.claim('other', [writes('/s')])
    expect(refusal(() => mounts.claim('new', [reads('/r/a')], { instead: 'old' }))).toBeUndefined()
    expect(refusal(() => mounts.claim('new', [reads('/s/a')], { instead: 'old' }))).toMatchObject({ code: 'conflict' })
  })

  it('does not tell whose the other is, and tells paths as callers know them', () => {
    const mounts = new HostMounts((path) => path.replace('/srv', '/code'))
    mounts.claim('worker_secret', [writes('/srv/r')])
    const { message } = refusal(() => mounts.claim('second', [reads('/srv/r/a')])) ?? { message: '' }
    expect(message).toContain('"/code/r/a"')
    expect(message).not.toMatch(/worker_secret|srv/)
  })
})

describe('what a mount point guards', () => {
  const worktree = (name: string, parts: readonly string[]): HeldMount[] => [
    writes(`/trees/${name}`, '/workspace'),
    reads(`/trees/${name}/.git`, '/workspace/.git'),
    writes('/repo/.git', '/repo/.git'),
    ...parts.map((part) => reads(`/repo/.git/${part}`, `/repo/.git/${part}`)),
    writes(`/repo/.git/worktrees/${name}`, `/repo/.git/worktrees/${name}`),
    reads(`/repo/.git/worktrees/${name}/commondir`, `/repo/.git/worktrees/${name}/commondir`),
  ]
  const PARTS = ['hooks', 'config', 'worktrees']

  it('lets worktrees of one repository live beside each other', () => {
    expect(second(worktree('one', PARTS), worktree('two', PARTS))).toBeUndefined()
  })

  it('is of no help where the other container lacks it', () => {
    expect(second(worktree('one', PARTS), worktree('two', [...PARTS, 'modules']))).toBe('conflict')
    expect(second(worktree('one', [...PARTS, 'modules']), worktree('two', PARTS))).toBe('conflict')
  })

  it('is its own place alone: beside it, or by another mount of the folder, there is a way', () => {
    const attempt = (mounts: HeldMount[]) => refusal(() => new HostMounts().claim('one', mounts))?.code
    expect(attempt([writes('/r', '/m'), reads('/r/a', '/m/a')])).toBeUndefined()
    expect(attempt([writes('/r', '/m'), reads('/r/a', '/m/b')])).toBe('validation_failed')
    expect(attempt([writes('/r', '/m'), reads('/r/b', '/m/a'), reads('/r/a', '/x')])).toBe('validation_failed')
    expect(attempt([writes('/r', '/m'), writes('/r', '/n'), reads('/r/a', '/m/a')])).toBe('validation_failed')
    // A folder above a mount point can be moved, and the mount point with it.
    expect(attempt([writes('/r', '/m'), reads('/r/a/b', '/m/a/b')])).toBe('validation_failed')
    // What can be written beneath the mount point is that mount's to give.
    expect(attempt([writes('/r', '/m'), reads('/r/a', '/m/a'), reads('/r/a/b', '/x')])).toBeUndefined()
    expect(attempt([writes('/r', '/m'), writes('/r/a', '/m/a'), reads('/r/a/b', '/x')])).toBe('validation_failed')
  })

  it('does not lend itself to a worktree in a folder that somebody works in', () => {
    const nested = [writes('/repo/trees/one', '/workspace'), writes('/repo/.git', '/repo/.git')]
    expect(second([writes('/repo', '/workspace')], nested)).toBe('conflict')
    expect(second(nested, [writes('/repo', '/workspace')])).toBe('conflict')
  })
})

describe('what is held', () => {
  const isFree = (mounts: HostMounts) => {
    const isRefused = refusal(() => mounts.claim('asking', [writes('/r')])) !== undefined
    mounts.release('asking')
    return !isRefused
  }

  it('is held until it is released', () => {
    const mounts = new HostMounts()
    mounts.claim('one', [reads('/r/a')])
    expect(isFree(mounts)).toBe(false)
    mounts.release('one')
    expect(isFree(mounts)).toBe(true)
    mounts.release('one')
  })

  it('is held by a container that is left, although its owner released it', () => {
    const mounts = new HostMounts()
    mounts.claim('one', [reads('/r/a')])
    mounts.made('one', 'c1', [reads('/r/a')])
    mounts.release('one')
    expect([isFree(mounts), mounts.containers()]).toEqual([false, ['c1']])
    mounts.gone('c1')
    expect([isFree(mounts), mounts.containers()]).toEqual([true, []])
  })

  it('is held by an owner whose container is gone: it may make another', () => {
    const mounts = new HostMounts()
    mounts.claim('one', [reads('/r/a')])
    mounts.made('one', 'c1', [reads('/r/a')])
    mounts.gone('c1')
    expect(isFree(mounts)).toBe(false)
    mounts.release('one')
    expect(isFree(mounts)).toBe(true)
  })

  it('is taken over as it is, where containers run already', () => {
    const mounts = new HostMounts()
    mounts.made('one', 'c1', [writes('/r')])
    mounts.made('two', 'c2', [reads('/r/a')])
    expect(refusal(() => mounts.claim('three', [reads('/r/b')]))).toMatchObject({ code: 'conflict' })
    mounts.gone('c1')
    expect(refusal(() => mounts.claim('three', [reads('/r/b')]))).toBeUndefined()
  })

  it('is judged container by container: what the new one guards, the old one may not', () => {
    const mounts = new HostMounts()
    mounts.claim('one', [writes('/r', '/m'), reads('/r/a', '/m/a')])
    mounts.made('one', 'old', [writes('/r', '/m')])
    mounts.made('one', 'new', [writes('/r', '/m'), reads('/r/a', '/m/a')])
    expect(refusal(() => mounts.claim('two', [reads('/r/a')]))).toMatchObject({ code: 'conflict' })
    mounts.gone('old')
    expect(refusal(() => mounts.claim('two', [reads('/r/a')]))).toBeUndefined()
  })

  it('is nothing where nothing of the host is mounted', () => {
    const mounts = new HostMounts()
    mounts.claim('one', [])
    mounts.made('one', 'c1', [])
    expect(mounts.containers()).toEqual([])
  })
})
