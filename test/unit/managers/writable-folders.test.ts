import type { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { extract, type Header } from 'tar-stream'
import { describe, expect, it } from 'vitest'
import type { Containers } from '../../../src/engine/engine.ts'
import type { MountSpec } from '../../../src/engine/spec.ts'
import { folderMounts, needsOpenFolders, placeInputFiles, planFolders } from '../../../src/managers/writable-folders.ts'
import { toolRequest } from '../support/requests.ts'
import { thrown } from '../support/streams.ts'

const plan = (fields: object, mounts: MountSpec[] = []) => planFolders(toolRequest(fields), mounts)
const foldersOf = (fields: object, mounts?: MountSpec[]) => [...plan(fields, mounts).folders].sort()
const volumeAt = (target: string): MountSpec => ({ type: 'volume', source: 'v', target, readOnly: false })

describe('planFolders', () => {
  it('gives every tool an /output, and nothing else that it did not ask for', () => {
    expect(plan({})).toEqual({ folders: ['/output'], files: [] })
  })

  it('puts relative input files beneath /input', () => {
    const { folders, files } = plan({ input_files: { 'a.txt': 'text', 'b/c.bin': { base64: 'AAH/' } } })
    expect(folders).toEqual(['/output', '/input'])
    expect(files).toEqual([
      { path: '/input/a.txt', content: Buffer.from('text') },
      { path: '/input/b/c.bin', content: Buffer.from([0, 1, 255]) },
    ])
  })

  it('mounts the folder of a file or path elsewhere, and one for all that lie within', () => {
    expect(foldersOf({ input_files: { '/work/a.txt': '', '/work/sub/b.txt': '' } })).toEqual(['/output', '/work'])
    expect(foldersOf({ output_paths: ['/results/x.csv', '/results/y/z.csv'] })).toEqual(['/output', '/results'])
    expect(foldersOf({ input_files: { '/output/seed.txt': '' }, output_paths: ['/output/deep/x'] })).toEqual([
      '/output',
    ])
  })

  it('does not take a folder for the parent of one with a longer name', () => {
    expect(foldersOf({ output_paths: ['/data/x', '/database/y'] })).toEqual(['/data', '/database', '/output'])
  })

  it('makes no folder where a volume is mounted', () => {
    expect(foldersOf({ output_paths: ['/data/x'] }, [volumeAt('/data')])).toEqual(['/output'])
    expect(foldersOf({}, [volumeAt('/output')])).toEqual([])
    expect(foldersOf({}, [volumeAt('/output/')])).toEqual([])
  })

  it.each(['/data', '/input', '/data/sub'])('refuses an input file in a volume at %s', (target) => {
    const path = `${target}/x.txt`
    expect(thrown(() => plan({ input_files: { [path]: '' } }, [volumeAt(target)]))).toMatchObject({
      code: 'validation_failed',
      details: { errors: [{ path: 'input_files' }] },
    })
  })

  it.each(['/input/sub', '/work/sub'])('refuses an input file in a volume at %s, inside a folder of ours', (target) => {
    const input_files = { [`${target}/x.txt`]: '', '/work/y.txt': '' }
    expect(thrown(() => plan({ input_files }, [volumeAt(target)]))).toMatchObject({ code: 'validation_failed' })
  })

  it.each(['/file.txt', '//file.txt'])('refuses the input file %s, in the root folder', (path) => {
    expect(thrown(() => plan({ input_files: { [path]: '' } }))).toMatchObject({
      code: 'validation_failed',
      details: { errors: [{ path: 'input_files' }] },
    })
  })

  it.each(['/input', '/output', '//output'])('refuses an input file at %s, which is a folder', (path) => {
    expect(thrown(() => plan({ input_files: { [path]: '' } }))).toMatchObject({ code: 'validation_failed' })
  })

  it('refuses an output path in the root folder', () => {
    expect(thrown(() => plan({ output_paths: ['/file.txt'] }))).toMatchObject({
      code: 'validation_failed',
      details: { errors: [{ path: 'output_paths' }] },
    })
  })

  it.each(['/proc/x', '/sys/kernel/x', '/dev/x', '/.toolbox/x'])('makes no folder for %s', (path) => {
    expect(thrown(() => plan({ output_paths: [path] }))).toMatchObject({ code: 'policy_denied' })
    expect(thrown(() => plan({ input_files: { [path]: '' } }))).toMatchObject({ code: 'policy_denied' })
  })
})

describe('folderMounts', () => {
  it('are anonymous volumes, or those that are named for them', () => {
    const folders = { folders: ['/output', '/input'], files: [] }
    expect(folderMounts(folders)).toEqual([
      { type: 'volume', target: '/output', readOnly: false },
      { type: 'volume', target: '/input', readOnly: false },
    ])
    expect(folderMounts(folders, new Map([['/input', 'kept']]))).toEqual([
      { type: 'volume', target: '/output', readOnly: false },
      { type: 'volume', target: '/input', readOnly: false, source: 'kept' },
    ])
  })
})

describe('needsOpenFolders', () => {
  it.each(['', 'root', '0', 'root:root', '0:0', ':1000'])('is not so for the user "%s", which is root', (user) => {
    expect(needsOpenFolders(user)).toBe(false)
  })

  it.each(['1000', '1000:1000', 'app', 'nobody:0', 'rootless', '00x', '10'])('is so for the user "%s"', (user) => {
    expect(needsOpenFolders(user)).toBe(true)
  })
})

interface Entry {
  name: string
  type: Header['type']
  mode: number | undefined
  content: string
}

async function entriesOf(tar: Readable): Promise<Entry[]> {
  const entries: Entry[] = []
  const unpacked = tar.pipe(extract())
  for await (const entry of unpacked) {
    const { name, type, mode } = entry.header
    entries.push({ name, type, mode, content: (await buffer(entry)).toString() })
  }
  return entries
}

/** The archives that a container is given, by folder: what the engine would unpack. */
async function placed(fields: object): Promise<Map<string, Entry[]>> {
  const archives = new Map<string, Entry[]>()
  const containers: Pick<Containers, 'writeArchive'> = {
    async writeArchive(_id, path, tar) {
      archives.set(path, await entriesOf(tar))
    },
  }
  await placeInputFiles(containers as Containers, 'c1', plan(fields), new AbortController().signal)
  return archives
}

describe('placeInputFiles', () => {
  it('writes each file once, by its path in its folder, after the folders above it', async () => {
    const archives = await placed({
      input_files: { 'a.txt': 'A', 'x/y/b.txt': 'B', 'x/c.txt': 'C', '/work/d.txt': 'D' },
    })
    expect([...archives.keys()].sort()).toEqual(['/input', '/work'])
    expect(archives.get('/input')).toEqual([
      { name: 'a.txt', type: 'file', mode: 0o755, content: 'A' },
      { name: 'x/', type: 'directory', mode: 0o777, content: '' },
      { name: 'x/y/', type: 'directory', mode: 0o777, content: '' },
      { name: 'x/y/b.txt', type: 'file', mode: 0o755, content: 'B' },
      { name: 'x/c.txt', type: 'file', mode: 0o755, content: 'C' },
    ])
    expect(archives.get('/work')).toEqual([{ name: 'd.txt', type: 'file', mode: 0o755, content: 'D' }])
  })

  it('writes nothing where there are no files', async () => {
    expect(await placed({ output_paths: ['/results/x'] })).toEqual(new Map())
  })

  it('keeps long names, wide characters and the bytes of binary files', async () => {
    const name = `${'long/'.repeat(40)}größe 漢.txt`
    const archives = await placed({ input_files: { [name]: { base64: Buffer.from('ü').toString('base64') } } })
    expect(archives.get('/input')?.at(-1)).toMatchObject({ name, content: 'ü' })
  })
})
