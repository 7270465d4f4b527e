import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { ContainerState, Containers, MountedPath } from '../../../src/engine/engine.ts'
import { HostPaths } from '../../../src/managers/host-paths.ts'
import { temporaryFolder } from '../support/folders.ts'
import { rejection, thrown } from '../support/streams.ts'

const ID = '0123456789abcdef'.repeat(4)
const HOSTNAME = `1201 1190 8:1 /var/lib/docker/containers/${ID}/hostname /etc/hostname rw,relatime - ext4 /dev/sda1 rw`
const TABLE = `1190 900 0:60 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/l/A
1200 1190 8:1 /var/lib/docker/containers/${ID}/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/sda1 rw
${HOSTNAME}
1203 1190 8:1 /srv/data /data rw,relatime - ext4 /dev/sda1 rw
`

/** An engine that knows the container `ID` only. */
function containers(mounts: MountedPath[] | undefined): { containers: Containers; asked: string[] } {
  const asked: string[] = []
  const inspect = async (id: string) => {
    asked.push(id)
    return mounts === undefined ? undefined : ({ id, mounts } as unknown as ContainerState)
  }
  return { containers: { inspect } as unknown as Containers, asked }
}

async function detect(table: string | undefined, mounts: MountedPath[] | undefined) {
  const path = join(await temporaryFolder(), 'mountinfo')
  if (table !== undefined) await writeFile(path, table)
  const engine = containers(mounts)
  return { paths: await HostPaths.detect(engine.containers, path), asked: engine.asked }
}

describe('HostPaths.detect', () => {
  it('finds the container that it runs in, and its mounts', async () => {
    const { paths, asked } = await detect(TABLE, [{ source: '/srv/data', target: '/data' }])
    expect(asked).toEqual([ID])
    expect(paths.toEngine('/data/x')).toBe('/srv/data/x')
  })

  it.each([
    ['on the host', '30 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n'],
    ['where there is no such table', undefined],
    ['where the table is empty', ''],
    ['where a folder only looks like it', HOSTNAME.replace(ID, 'abc')],
    ['where the name goes on', HOSTNAME.replace('/hostname /etc', '/hostname.txt /etc')],
  ])('takes paths as they are %s, and asks nobody', async (_, table) => {
    const { paths, asked } = await detect(table, [{ source: '/srv/data', target: '/data' }])
    expect(asked).toEqual([])
    expect(paths.toEngine('/data/x')).toBe('/data/x')
    expect(paths.toLocal('/srv/data/x')).toBe('/srv/data/x')
  })

  it('takes paths as they are in a container of another engine', async () => {
    const { paths, asked } = await detect(TABLE, undefined)
    expect(asked).toEqual([ID])
    expect(paths.toEngine('/data/x')).toBe('/data/x')
  })

  it('fails where the engine does: paths that are wrong would be worse', async () => {
    const path = join(await temporaryFolder(), 'mountinfo')
    await writeFile(path, TABLE)
    const failure = new Error('the engine is away')
    const engine = { inspect: () => Promise.reject(failure) } as unknown as Containers
    expect(await rejection(HostPaths.detect(engine, path))).toBe(failure)
  })
})

describe('on the host', () => {
  it('paths are the same', () => {
    const paths = new HostPaths()
    expect(paths.toEngine('/srv/a')).toBe('/srv/a')
    expect(paths.toLocal('/srv/a')).toBe('/srv/a')
  })
})

describe('in a container', () => {
  const paths = new HostPaths([
    { source: '/srv/data', target: '/data' },
    { source: '/mnt/fast', target: '/data/fast' },
    { source: '/srv/data/deep', target: '/deep' },
    { source: '', target: '/tmp' },
    { source: '/var/run/docker.sock', target: '/var/run/docker.sock' },
  ])

  it.each([
    ['/data', '/srv/data'],
    ['/data/a/b', '/srv/data/a/b'],
    ['/data/fast', '/mnt/fast'],
    ['/data/fast/x', '/mnt/fast/x'],
    ['/data/faster', '/srv/data/faster'],
    ['/deep/x', '/srv/data/deep/x'],
  ])('%s is %s to the engine, by the innermost mount', (ours, theirs) => {
    expect(paths.toEngine(ours)).toBe(theirs)
  })

  it.each(['/', '/etc/passwd', '/database', '/dat'])('%s is out of the reach of the engine', (path) => {
    expect(thrown(() => paths.toEngine(path))).toMatchObject({
      code: 'validation_failed',
      message: expect.stringContaining(`"${path}"`),
    })
  })

  it.each([
    ['/srv/data/a', '/data/a'],
    ['/srv/data/deep/x', '/deep/x'],
    ['/mnt/fast', '/data/fast'],
  ])('%s of the host is %s here', (theirs, ours) => {
    expect(paths.toLocal(theirs)).toBe(ours)
  })

  it.each(['/srv', '/srv/database', '/home/x', 'relative/a', '../x'])(
    '%s is not to be seen here, and stays',
    (path) => {
      expect(paths.toLocal(path)).toBe(path)
    },
  )

  it('what it tells the engine leads back', () => {
    for (const path of ['/data/a', '/data/fast/x', '/deep/x']) expect(paths.toLocal(paths.toEngine(path))).toBe(path)
  })

  it('without any mount reaches nothing', () => {
    expect(thrown(() => new HostPaths([]).toEngine('/data'))).toMatchObject({ code: 'validation_failed' })
  })
})
