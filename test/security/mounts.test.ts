/**
 * Rows 2 and 29: a folder that is swapped for a symlink while it is asked for, and tars that climb, link and
 * swell. What a container gets is never what lies outside.
 *
 * SECURITY_SWAPS sets how many mounts are asked for during the swaps (none; 10,000 with `--full`). It is known
 * that some of them get out: docs/SECURITY.md says so among what is not there yet. SECURITY_SPARSE_GIB sets how
 * large a sparse file says it is (1; 10).
 */
import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer, text } from 'node:stream/consumers'
import { type Header, pack } from 'tar-stream'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sh } from '../fixtures/client.ts'
import { TOOLBOX } from '../fixtures/images.ts'
import { newSession } from '../fixtures/sessions.ts'
import { report } from '../support/report.ts'
import { atOnce } from './support/at-once.ts'
import { Wall } from './support/wall.ts'

const SWAPS = Number(process.env['SECURITY_SWAPS'] ?? 0)
const SPARSE_GIB = Number(process.env['SECURITY_SPARSE_GIB'] ?? 1)
const session_id = newSession('mounts')

/** One of the two, or for a moment nothing, until its stdin ends; then it says how often. */
const SWAPPER = `
  const { renameSync } = require('node:fs')
  const [folder, link, asked] = process.argv.slice(1)
  const pause = new Int32Array(new SharedArrayBuffer(4))
  let swaps = 0
  let isOver = false
  process.stdin.resume().once('end', () => (isOver = true))
  const swap = () => {
    for (const one of [folder, link]) {
      renameSync(one, asked)
      Atomics.wait(pause, 0, 0, Math.random() * 4)
      renameSync(asked, one)
      swaps += 1
    }
    if (isOver) console.log(swaps)
    else setImmediate(swap)
  }
  swap()
`

let wall: Wall
let root: string
let outside: string

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'co-root-'))
  outside = await mkdtemp(join(tmpdir(), 'co-outside-'))
  await writeFile(join(outside, 'file'), 'secret of the host')
  wall = await Wall.raise({ CO_ALLOWED_HOST_ROOTS: root }, { hostRoots: [root] })
})
afterAll(async () => {
  expect(wall.breaches()).toEqual([])
  await wall.fall()
  await rm(root, { recursive: true, force: true })
  await rm(outside, { recursive: true, force: true })
})

describe('row 2: a folder that is swapped for a symlink out of the root', () => {
  it.runIf(SWAPS > 0)(`shows nothing of what is outside, in ${SWAPS} mounts`, async () => {
    const [asked, folder, link] = [join(root, 'asked'), join(root, 'folder'), join(root, 'link')]
    await mkdir(folder)
    await writeFile(join(folder, 'file'), 'of the root')
    await symlink(outside, link)
    // A process of its own, as an attacker with a worker in the root would have one.
    const swapper = spawn(process.execPath, ['-e', SWAPPER, folder, link, asked], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const ends = new Map<string, number>()
    const leaks: string[] = []
    await atOnce(4, Array.from({ length: SWAPS }), async () => {
      const answer = await wall.client.post('/containers/tool/execute', {
        tool_name: 'swap',
        session_id,
        image: TOOLBOX,
        command: ['cat', '/mnt/file'],
        volumes: [{ source: asked, target: '/mnt' }],
      })
      if (answer.text.includes('secret of the host')) leaks.push(answer.text.slice(0, 500))
      const end = String(answer.body.code ?? answer.body.status)
      ends.set(end, (ends.get(end) ?? 0) + 1)
      expect(answer.status, answer.text).toBeLessThan(500)
    }).finally(() => swapper.stdin.end())
    const swaps = Number(await text(swapper.stdout))
    expect(leaks).toEqual([])
    expect(swaps).toBeGreaterThan(SWAPS)
    await report('A mount that is swapped for a symlink (row 2)', {
      mounts: SWAPS,
      swaps,
      leaks: 0,
      ...Object.fromEntries(ends),
    })
  })
})

describe('row 29: tars', () => {
  type Entry = readonly [Partial<Header> & { name: string }, string?]
  async function tarOf(entries: readonly Entry[]): Promise<Buffer> {
    const tar = pack()
    for (const [header, content] of entries) tar.entry(header, content ?? '')
    tar.finalize()
    return buffer(tar)
  }
  const EVIL: Readonly<Record<string, readonly Entry[]>> = {
    'a path that climbs': [[{ name: '../../etc/passwd' }, 'x']],
    'a path that climbs late': [[{ name: 'a/../../../x' }, 'x']],
    'an absolute path': [[{ name: '/etc/passwd' }, 'x']],
    'a symlink': [[{ name: 'link', type: 'symlink', linkname: '/' }]],
    'a symlink, and a file through it': [
      [{ name: 'l', type: 'symlink', linkname: '/etc' }],
      [{ name: 'l/passwd' }, 'x'],
    ],
    'a hard link': [[{ name: 'link', type: 'link', linkname: '/etc/shadow' }]],
    'a device': [[{ name: 'device', type: 'block-device', devmajor: 8, devminor: 0 }]],
    'a character device': [[{ name: 'device', type: 'character-device', devmajor: 1, devminor: 1 }]],
    'a pipe': [[{ name: 'pipe', type: 'fifo' }]],
    'a program that is root’s': [[{ name: 'program', mode: 0o4755, uid: 0 }, 'x']],
  }

  beforeAll(async () => {
    const started = await wall.client.post('/containers/worker/start', { worker_id: 'tar', session_id, image: TOOLBOX })
    expect(started.status, started.text).toBe(201)
  })

  it.each(Object.entries(EVIL))('with %s do no harm', async (name, entries) => {
    const content = await tarOf([[{ name: 'good' }, 'good'], ...entries])
    const answer = await fetch(`${wall.client.url}/containers/worker/tar/files/into`, {
      method: 'PUT',
      headers: { 'content-type': 'application/x-tar' },
      body: new Uint8Array(content),
    })
    if (name !== 'a program that is root’s') expect(answer.status, await answer.text()).toBe(400)
    const { body } = await wall.client.post('/containers/worker/tar/exec', {
      command:
        'find / -xdev \\( -name passwd -o -name x -o -name device -o -name pipe -o -name link \\) -newer /proc/1 2>/dev/null | grep -v ^/proc; find /workspace -perm -4000; find /workspace -type l; true',
    })
    expect(body.stdout).toBe('')
  })

  it('from a container are read as a stream, and what is no file is left out', async () => {
    const run = await wall.client.run({
      session_id,
      command: sh(
        'cd /output; echo kept > kept; ln -s /etc/passwd link; ln kept hard; mkfifo pipe; mkdir -p d/e; echo x > d/e/f; ln -s / d/root; echo y > "..odd"',
      ),
    })
    expect(run.status).toBe('completed')
    const paths = run.artifacts.map(({ path }: { path: string }) => path)
    expect(paths.some((path: string) => /link|pipe|root/.test(path))).toBe(false)
    // The second name of a file is a link in the tar.
    expect(paths.filter((path: string) => /[/](?:kept|hard)$/.test(path))).toHaveLength(1)
    for (const path of ['..%2F..%2Fstore.sqlite', '%2Fetc%2Fpasswd', 'd%2F..%2F..%2Fx', 'link', 'd/root/etc/passwd']) {
      expect([400, 404]).toContain(
        (await wall.client.get(`/containers/tool/${run.execution_id}/artifacts/${path}`)).status,
      )
    }
  })

  it('of a sparse file are bounded in bytes', async () => {
    const run = await wall.client.run({
      session_id,
      command: sh(`cd /output; dd if=/dev/zero of=sparse bs=1 count=1 seek=${SPARSE_GIB}G 2>/dev/null`),
    })
    const kept = run.artifacts.reduce((sum: number, { bytes }: { bytes: number }) => sum + bytes, 0)
    expect(kept).toBeLessThan(1024 ** 3)
    expect(run.artifacts.some(({ path }: { path: string }) => path.endsWith('/sparse'))).toBe(false)
  })
})
