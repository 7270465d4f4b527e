import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  decideVolume,
  isBeneath,
  mountOf,
  requireMountTarget,
  sessionVolumeName,
  type VolumePolicy,
  workerVolumeName,
} from '../../../src/policy/volumes.ts'
import { thrown } from '../support/streams.ts'

const NOTHING: VolumePolicy = { allowedHostRoots: [], sharedVolumes: [] }
const POLICY: VolumePolicy = { allowedHostRoots: ['/srv/models', '/data'], sharedVolumes: ['datasets'] }

const decide = (source: string, policy = POLICY, target = '/mnt', read_only = true) =>
  decideVolume({ source, target, read_only }, policy)

describe('decideVolume', () => {
  it.each([
    '/var/run/docker.sock',
    '/run/docker.sock',
    '/',
    '//',
    '/etc',
    '/root/.ssh',
    '/srv',
    '/srv/modelsX',
    '/srv/models/../../etc',
    '/srv/models/../models2',
    '/srv/models/./../..',
    '/data/../var/run/docker.sock',
  ])('refuses a bind of %s', (source) => {
    const error = thrown(() => decide(source))
    expect(error).toMatchObject({ code: 'policy_denied', details: { rule: 'host_path' } })
    expect((error as Error).message).toContain(`Host path "${source}" is not under`)
    expect(error).toMatchObject({ details: { hint: expect.stringContaining('CO_ALLOWED_HOST_ROOTS') } })
    expect(thrown(() => decide(source, NOTHING))).toMatchObject({ code: 'policy_denied' })
  })

  it('takes a host path at or beneath an allowed root, cleaned up', () => {
    expect(decide('/srv/models')).toEqual({ type: 'host', source: '/srv/models', target: '/mnt', readOnly: true })
    expect(decide('/srv/models/')).toMatchObject({ source: '/srv/models' })
    expect(decide('/srv/models//a/./b/../c/')).toMatchObject({ type: 'host', source: '/srv/models/a/c' })
    expect(decide('/data/x', POLICY, '/mnt', false)).toMatchObject({ type: 'host', readOnly: false })
  })

  it('finds no way out of the roots, whatever the path', () => {
    const part = fc.constantFrom('..', '.', '', 'srv', 'models', 'data', 'etc', 'a')
    fc.assert(
      fc.property(fc.array(part, { maxLength: 10 }), (parts) => {
        const source = `/${parts.join('/')}`
        let decided: string
        try {
          decided = decide(source).source
        } catch (error) {
          expect(error).toMatchObject({ code: 'policy_denied' })
          return
        }
        expect(decided).toMatch(/^\/(srv\/models|data)(\/(?!\.\.?(\/|$))[^/]+)*$/)
      }),
    )
  })

  it('takes a name for a volume of the session, or for a shared one', () => {
    expect(decide('cache')).toEqual({ type: 'session', source: 'cache', target: '/mnt', readOnly: true })
    expect(decide('datasets')).toMatchObject({ type: 'shared', source: 'datasets' })
    expect(decide('datasets', NOTHING)).toMatchObject({ type: 'session' })
  })

  it.each(['../etc', './data', 'a/b', '-rf', '.hidden', '', 'a b', 'a:b', 'a\0b', 'ä', 'x'.repeat(64), 'C:\\data'])(
    'refuses "%s", which is neither a name nor an absolute path',
    (source) => {
      expect(thrown(() => decide(source))).toMatchObject({
        code: 'policy_denied',
        message: expect.stringMatching(/neither a volume's name nor an absolute host path$/),
        details: { rule: 'volume' },
      })
    },
  )

  it('tells the beginning of a long source', () => {
    expect(thrown(() => decide('x'.repeat(200)))).toMatchObject({
      message: expect.stringMatching(/^"x{80}" is/),
    })
  })

  it('cleans the target up, so that one place has one spelling', () => {
    for (const target of ['/mnt/a', '/mnt/a/', '/mnt//a', '//mnt/a']) {
      expect(decide('cache', POLICY, target), target).toMatchObject({ target: '/mnt/a' })
    }
  })

  it('looks at the target before the source', () => {
    expect((thrown(() => decide('/etc', POLICY, '/proc')) as Error).message).toContain('/proc')
  })
})

describe('requireMountTarget', () => {
  it.each(['/', '/proc', '/proc/1', '/sys', '/sys/fs/cgroup', '/dev', '/dev/shm', '/.toolbox', '/.toolbox/x'])(
    'refuses %s',
    (target) => {
      expect(thrown(() => requireMountTarget(target))).toMatchObject({
        code: 'policy_denied',
        message: `Nothing can be mounted at "${target}"`,
        details: { rule: 'mount_target', hint: expect.stringContaining('/data') },
      })
    },
  )

  it.each(['//', '/proc/', '//proc', '/dev//'])('is not led astray by the spelling %s', (target) => {
    expect(thrown(() => decide('cache', POLICY, target))).toMatchObject({ code: 'policy_denied' })
  })

  it.each(['/data', '/process', '/device', '/sysroot', '/.toolboxes', '/home/dev'])('allows %s', (target) => {
    expect(requireMountTarget(target)).toBeUndefined()
  })
})

describe('isBeneath', () => {
  it.each([
    ['/a', '/a', true],
    ['/a/b', '/a', true],
    ['/a/b', '/a/', true],
    ['/ab', '/a', false],
    ['/', '/a', false],
    ['/b/a', '/a', false],
  ])('%s in %s: %s', (path, root, expected) => {
    expect(isBeneath(path, root)).toBe(expected)
  })
})

describe('the mount of a decision', () => {
  it('binds host paths, and mounts volumes by the name they are given', () => {
    expect(mountOf(decide('/data/x'), '/data/real')).toEqual({
      type: 'bind',
      source: '/data/real',
      target: '/mnt',
      readOnly: true,
    })
    expect(mountOf(decide('cache', POLICY, '/mnt', false), 'volume_s1_cache')).toEqual({
      type: 'volume',
      source: 'volume_s1_cache',
      target: '/mnt',
      readOnly: false,
    })
    expect(mountOf(decide('datasets'), 'datasets')).toMatchObject({ type: 'volume', source: 'datasets' })
  })
})

describe('workerVolumeName', () => {
  it('names the worker and the volume, and is another for each worker, volume and installation', () => {
    const names = [
      workerVolumeName('i1', 'w1', 'cache'),
      workerVolumeName('i2', 'w1', 'cache'),
      workerVolumeName('i1', 'w2', 'cache'),
      workerVolumeName('i1', 'w1', 'home'),
      workerVolumeName('i1', 'w1_cache', 'x'),
      workerVolumeName('i1', 'w1', 'cache_x'),
    ]
    expect(names[0]).toMatch(/^worker_w1_cache_[0-9a-f]{8}$/)
    expect(new Set(names).size).toBe(names.length)
    expect(workerVolumeName('i1', 'w1', 'cache')).toBe(names[0])
  })
})

describe('sessionVolumeName', () => {
  it('names the session and the volume', () => {
    expect(sessionVolumeName('i1', 's1', 'cache')).toMatch(/^volume_s1_cache_[0-9a-f]{8}$/)
    expect(sessionVolumeName('i1', 's1', 'cache')).toBe(sessionVolumeName('i1', 's1', 'cache'))
    expect(sessionVolumeName('i1', 's1', 'cache')).not.toBe(sessionVolumeName('i2', 's1', 'cache'))
  })

  it('is never the same for two sessions', () => {
    const name = fc.stringMatching(/^[a-c][a-c_]{0,4}$/)
    fc.assert(
      fc.property(name, name, name, name, (session, volume, otherSession, otherVolume) => {
        fc.pre(session !== otherSession)
        expect(sessionVolumeName('i1', session, volume)).not.toBe(sessionVolumeName('i1', otherSession, otherVolume))
      }),
      { numRuns: 5_000 },
    )
  })
})
