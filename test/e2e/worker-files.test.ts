import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { extract, type Header, pack } from 'tar-stream'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startService, type TestService } from '../fixtures/service.ts'
import { WorkerClient } from '../fixtures/workers.ts'

let service: TestService
let client: WorkerClient
const FILES = '/containers/worker/w/files'

beforeAll(async () => {
  service = await startService()
  client = new WorkerClient(service.url)
  await client.startWorker('w')
})
afterAll(() => service.destroy())

async function put(path: string, content: Uint8Array | string, type = 'application/octet-stream') {
  const answer = await fetch(`${service.url}${FILES}/${path}`, {
    method: 'PUT',
    headers: { 'content-type': type },
    body: Buffer.from(content),
  })
  return { status: answer.status, body: JSON.parse(await answer.text()) }
}

async function read(path: string): Promise<Buffer> {
  const answer = await fetch(`${service.url}${FILES}/${path}`)
  if (answer.status !== 200) throw new Error(`${answer.status}: ${await answer.text()}`)
  return Buffer.from(await answer.arrayBuffer())
}

async function tarOf(entries: (Partial<Header> & { name: string; content?: string })[]): Promise<Buffer> {
  const tar = pack()
  for (const { content, ...header } of entries) tar.entry(header as Header, content ?? '')
  tar.finalize()
  return buffer(Readable.from(tar))
}

async function entriesOf(tar: Buffer): Promise<Record<string, string>> {
  const entries = extract()
  Readable.from([tar]).pipe(entries)
  const found: Record<string, string> = {}
  for await (const entry of entries) found[entry.header.name] = (await buffer(Readable.from(entry))).toString()
  return found
}

describe('a file in a worker', () => {
  it('is written and read byte for byte, in folders that are made for it, as the worker’s user', async () => {
    const bytes = Buffer.from(Array.from({ length: 70_000 }, (_, index) => index % 256))
    expect(await put('deep/er/all.bin', bytes)).toEqual({
      status: 201,
      body: { path: '/workspace/deep/er/all.bin', files: 1, bytes: bytes.length },
    })
    expect((await read('deep/er/all.bin')).equals(bytes)).toBe(true)
    expect(await client.output('w', 'stat -c "%u %a" deep deep/er/all.bin; wc -c < deep/er/all.bin')).toBe(
      '1000 755\n1000 644\n70000',
    )
    expect((await put('deep/er/run.sh?mode=755', '#!/bin/sh\necho ran\n', 'text/plain')).status).toBe(201)
    expect(await client.output('w', 'deep/er/run.sh')).toBe('ran')
    expect((await put('deep/er/all.bin', '', 'application/json')).status).toBe(201)
    expect((await read('deep/er/all.bin')).length).toBe(0)
  })

  it('is named relative to the workspace, or absolutely', async () => {
    await put('where', 'here')
    for (const path of ['where', 'workspace/where', '%2Fworkspace%2Fwhere', '/workspace/where']) {
      expect((await read(path)).toString()).toBe('here')
    }
    expect((await read('%2Fetc%2Fpasswd')).toString()).toContain('root')
  })

  it('keeps odd names', async () => {
    for (const name of ['with space', 'ü🎉', 'a%b', '-rf', `quote'"`, '*', 'two\nlines', '.hidden', '..dots']) {
      await put(encodeURIComponent(name), name)
      expect((await read(encodeURIComponent(name))).toString()).toBe(name)
    }
    const { items } = (await client.get(FILES)).body
    const names = items.map(({ name }: { name: string }) => name)
    expect(names).toEqual(expect.arrayContaining(['ü🎉', 'with space', '*', '-rf', 'two\nlines', '.hidden', '..dots']))
    // A paused worker is looked at from outside, and looks the same.
    await client.post('/containers/worker/w/pause')
    expect((await client.get(FILES)).body.items).toEqual(items)
    await client.post('/containers/worker/w/resume')
  })

  it.each([
    ['..%2F..%2Fetc%2Fpasswd', 400],
    ['a/..%2F..%2F..%2Fetc/passwd', 400],
    ['%2Fproc%2F1%2Fenviron', 403],
    ['%2Frun%2Fworker%2Fenvironment', 403],
    ['%2F', 403],
    ['%ff', 400],
    ['%2F.toolbox%2Fbusybox', 403],
    ['absent', 404],
    ['deep/absent/file', 404],
  ])('%s is a %i', async (path, status) => {
    expect((await client.get(`${FILES}/${path}`)).status).toBe(status)
  })

  it('is not reached through a symlink that leads out, and is through one that stays', async () => {
    await client.output(
      'w',
      'ln -s /etc out; ln -s /etc/passwd outfile; ln -s deep in; ln -s ../../../etc up; ln -s loop loop',
    )
    for (const path of ['out/passwd', 'outfile', 'up/passwd', 'loop']) {
      const answer = await client.get(`${FILES}/${path}`)
      expect([path, answer.status, answer.body.code]).toEqual([path, 403, 'policy_denied'])
      expect((await put(path, 'evil')).status).toBe(403)
    }
    await put('in/er/through', 'stays')
    expect(await client.output('w', 'cat deep/er/through')).toBe('stays')
    expect((await client.get(`${FILES}?path=out`)).status).toBe(403)
  })

  it('is refused where nothing can be written, and where it would be too large', async () => {
    const readonly = await put('%2Fetc%2Fevil', 'x')
    expect([readonly.status, readonly.body.code]).toEqual([403, 'policy_denied'])
    expect((await put('deep', 'x')).status).toBe(409)
    expect((await put('where/beneath', 'x')).status).toBe(409)
    const large = await fetch(`${service.url}${FILES}/large`, {
      method: 'PUT',
      body: new Uint8Array(257 * 1024 * 1024),
    })
    expect(large.status).toBe(413)
    expect((await client.get(`${FILES}/large`)).status).toBe(404)
  })
})

describe('a folder in a worker', () => {
  it('is listed with types and sizes', async () => {
    await client.output(
      'w',
      'mkdir list; echo 12345 > list/file; mkdir list/folder; echo x > list/folder/inner; ln -s file list/link',
    )
    const { body } = await client.get(`${FILES}?path=list`)
    expect(body.path).toBe('/workspace/list')
    expect(body.items).toMatchObject([
      { name: 'file', type: 'file', bytes: 6, path: '/workspace/list/file' },
      { name: 'folder', type: 'directory' },
      { name: 'link', type: 'symlink' },
    ])
    expect((await client.get(`${FILES}?path=list/file`)).status).toBe(400)
    expect((await client.get(`${FILES}?path=absent`)).status).toBe(404)
  })

  it('goes in and comes out as a tar', async () => {
    const tar = await tarOf([
      { name: 'src/', type: 'directory' },
      { name: 'src/a.txt', content: 'a' },
      { name: './b.sh', content: 'echo b', mode: 0o4755 },
    ])
    expect(await put('imported', tar, 'application/x-tar')).toEqual({
      status: 201,
      body: { path: '/workspace/imported', files: 2, bytes: 7 },
    })
    expect(
      await client.output('w', 'cat imported/src/a.txt; sh imported/b.sh; stat -c "%u %a" imported imported/b.sh'),
    ).toBe('ab\n1000 755\n1000 755')
    // Into a folder that is there, beside what is in it.
    expect((await put('imported', await tarOf([{ name: 'c', content: 'c' }]), 'application/x-tar')).status).toBe(201)
    const answer = await fetch(`${service.url}${FILES}/imported`)
    expect(answer.headers.get('content-type')).toBe('application/x-tar')
    expect(await entriesOf(Buffer.from(await answer.arrayBuffer()))).toEqual({
      'imported/': '',
      'imported/src/': '',
      'imported/src/a.txt': 'a',
      'imported/b.sh': 'echo b',
      'imported/c': 'c',
    })
  })

  it.each([
    ['a name that climbs', [{ name: '../../etc/evil', content: 'x' }]],
    ['an absolute name', [{ name: '/etc/evil', content: 'x' }]],
    ['a symlink', [{ name: 'link', type: 'symlink', linkname: '/etc' }]],
    ['a hard link', [{ name: 'link', type: 'link', linkname: 'where' }]],
    ['a device', [{ name: 'null', type: 'character-device', devmajor: 1, devminor: 3 }]],
  ] as const)('refuses a tar with %s', async (_what, entries) => {
    const tar = await tarOf(entries as unknown as Parameters<typeof tarOf>[0])
    const answer = await put('refused', tar, 'application/x-tar')
    expect([answer.status, answer.body.code]).toEqual([400, 'validation_failed'])
  })

  it('refuses what is no tar', async () => {
    const answer = await put('refused', 'this is not a tar at all'.repeat(100), 'application/x-tar')
    expect([answer.status, answer.body.code]).toEqual([400, 'validation_failed'])
  })
})

describe('a stopped worker', () => {
  it('can still be read, listed and written, before it is removed', async () => {
    await client.output('w', 'mkdir -p output; echo result > output/result.json')
    await client.post('/containers/worker/w/stop', { timeout_seconds: 0 })
    expect((await read('output/result.json')).toString()).toBe('result\n')
    expect((await client.get(`${FILES}?path=output`)).body.items).toMatchObject([{ name: 'result.json', bytes: 7 }])
    expect(await entriesOf(await read('output'))).toEqual({ 'output/': '', 'output/result.json': 'result\n' })
    expect((await put('output/late', 'late')).status).toBe(201)
    await client.delete('/containers/worker/w')
    expect((await client.get(`${FILES}/output`)).status).toBe(404)
  })
})
