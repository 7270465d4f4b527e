import { mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Containers, MountedPath } from '../../../src/engine/engine.ts'
import { OutputFolder } from '../../../src/managers/output-folder.ts'

const ANONYMOUS = 'a'.repeat(64)

let root: string
let folder: string
let modifiedAt: Date
const inspect = vi.fn(async () => ({ mounts: [mounted()] }))
const statPath = vi.fn(async () => ({ modifiedAt }))

beforeEach(async () => {
  vi.clearAllMocks()
  root = await mkdtemp(join(tmpdir(), 'co-output-'))
  folder = join(root, '_data')
  await mkdir(folder)
  modifiedAt = new Date(1_000)
})
afterEach(() => rm(root, { recursive: true }))

function mounted(source = folder, volume = ANONYMOUS): MountedPath {
  return { source, target: '/output', volume } as MountedPath
}

function outputFolder(): OutputFolder {
  return new OutputFolder({ inspect, statPath } as unknown as Containers)
}

describe('/output of a container, where the engine’s files are here', () => {
  it('looks the same until something is made in it, and the engine is not asked', async () => {
    const output = outputFolder()
    const before = await output.look('c', [mounted()])
    expect(await output.look('c', [mounted()])).toBe(before)
    await writeFile(join(folder, 'report'), '')
    expect(await output.look('c', [mounted()])).not.toBe(before)
    expect(inspect).not.toHaveBeenCalled()
    expect(statPath).not.toHaveBeenCalled()
  })

  it('looks another where another folder has its place, of the same time', async () => {
    const output = outputFolder()
    const time = new Date(1_600_000_000_000)
    await utimes(folder, time, time)
    const before = await output.look('c', [mounted()])
    await mkdir(join(root, 'other'))
    await utimes(join(root, 'other'), time, time)
    expect(await output.look('c', [mounted(join(root, 'other'))])).not.toBe(before)
  })

  it('is found by its mounts where these are not known', async () => {
    expect(await outputFolder().look('c')).toBe(await outputFolder().look('c', [mounted()]))
    expect(inspect).toHaveBeenCalledOnce()
  })

  it('is looked at by the engine where it has gone, and on the host the next time', async () => {
    const output = outputFolder()
    const before = await output.look('c', [mounted()])
    expect(await output.look('c', [mounted('/nonexistent')])).toBe('1000')
    expect(await output.look('c', [mounted()])).toBe(before)
  })
})

describe('/output of a container, looked at by the engine', () => {
  it('is so where its files are elsewhere, which is found out once', async () => {
    const output = outputFolder()
    expect(await output.look('c', [mounted('/nonexistent')])).toBe('1000')
    expect(await output.look('c', [mounted()])).toBe('1000')
    expect(statPath).toHaveBeenCalledTimes(2)
  })

  it('is so where it is a named volume or the host’s own folder, which may be mounted later', async () => {
    expect(await outputFolder().look('c', [mounted(folder, 'named')])).toBe('1000')
    expect(await outputFolder().look('c', [{ ...mounted(), volume: undefined } as unknown as MountedPath])).toBe('1000')
  })

  it('is undefined where there is none', async () => {
    statPath.mockResolvedValueOnce(undefined as never)
    expect(await outputFolder().look('c', [])).toBeUndefined()
  })
})
