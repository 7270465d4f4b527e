/**
 * Rows 2 and 29: a folder that a container swaps for a symlink while another one is to mount it, and tars that
 * climb, link and swell. What a container gets is never what lies outside.
 *
 * SECURITY_SWAPS sets how many mounts are asked for during the swaps (200; 10,000 with `--full`); a tenth of it
 * is how often the two are asked for at once. SECURITY_SPARSE_GIB sets how large a sparse file says it is (1; 10).
 */
import { chmod, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Header, pack } from 'tar-stream'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import type { ContainerSpec } from '../../src/engine/spec.ts'
import type { Answer } from '../fixtures/client.ts'
import { sh } from '../fixtures/client.ts'
import { leastContainer } from '../fixtures/container-spec.ts'
import { TOOLBOX } from '../fixtures/images.ts'
import { newSession } from '../fixtures/sessions.ts'
import { report } from '../support/report.ts'
import { atOnce } from './support/at-once.ts'
import { Wall } from './support/wall.ts'

const SWAPS = Number(process.env['SECURITY_SWAPS'] ?? 200)
const SPARSE_GIB = Number(process.env['SECURITY_SPARSE_GIB'] ?? 1)
const ROUNDS = Math.ceil(SWAPS / 10)
/** So long starts are tried until a swap wins that nobody keeps from it. */
const CONTROL_MS = 120_000
const SECRET = 'secret of the host'
const session_id = newSession('mounts')

/** `asked` is the folder, a link to what is outside, or for a moment nothing, so often or until there is a file `stop`. */
const swapping = (times: number, pause = ':') =>
  sh(`cd /mnt; n=0
while [ $n -lt ${times} ] && [ ! -e stop ]; do
  mv asked folder; mv link asked; ${pause}; mv asked link; mv folder asked; ${pause}; n=$((n + 1))
done; echo $n > swaps; echo $n`)
const ENDLESS = 1_000_000_000

let wall: Wall
let root: string
let outside: string

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'co-root-'))
  outside = await mkdtemp(join(tmpdir(), 'co-outside-'))
  // What keeps a container from it is that it is not mounted, and nothing else.
  await chmod(outside, 0o755)
  await writeFile(join(outside, 'file'), SECRET)
  wall = await Wall.raise({ CO_ALLOWED_HOST_ROOTS: root }, { hostRoots: [root] })
})
afterAll(async () => {
  expect(wall.breaches()).toEqual([])
  await wall.fall()
  await rm(root, { recursive: true, force: true })
  await rm(outside, { recursive: true, force: true })
})

/** A folder of the root with a folder in it, and beside that a link that leads outside. */
async function stage(name: string): Promise<{ parent: string; asked: string; stop: () => Promise<void> }> {
  const parent = join(root, name)
  const asked = join(parent, 'asked')
  await mkdir(asked, { recursive: true })
  await writeFile(join(asked, 'file'), 'of the root')
  await symlink(outside, join(parent, 'link'))
  return { parent, asked, stop: () => writeFile(join(parent, 'stop'), '') }
}

function tool(source: string, options: { read_only?: boolean; command?: string[]; wait?: boolean } = {}) {
  const { read_only = true, command = ['cat', '/mnt/file'], wait = true } = options
  return wall.client.post('/containers/tool/execute', {
    tool_name: 'swap',
    session_id,
    image: TOOLBOX,
    command,
    wait,
    resource_limits: { timeout_seconds: 3600 },
    volumes: [{ source, target: '/mnt', read_only }],
  })
}

async function swapsOf(executionId: string): Promise<number> {
  let run: Answer | undefined
  await expect
    .poll(
      async () => {
        run = await wall.client.get(`/containers/tool/${executionId}`)
        return run.body.status
      },
      { timeout: 60_000 },
    )
    .toBe('completed')
  return Number(run?.body.stdout)
}

/** True where two runs were at work at the same time. */
function overlap(one: Answer, other: Answer): boolean {
  const span = ({ body }: Answer) => [Date.parse(body.started_at), Date.parse(body.completed_at)] as const
  const [[from, to], [since, until]] = [span(one), span(other)]
  return from < until && since < to
}

describe('row 2: a folder that is swapped for a symlink out of the root', () => {
  it(`is mounted nowhere while a container can swap it, in ${SWAPS} tries`, async () => {
    const { parent, asked, stop } = await stage('before')
    const attacker = await tool(parent, { read_only: false, command: swapping(ENDLESS), wait: false })
    expect(attacker.status, attacker.text).toBe(202)
    const swapped = () => readdir(parent).then((names) => names.includes('folder') || !names.includes('link'))
    await expect.poll(swapped, { interval: 5, timeout: 60_000 }).toBe(true)
    const answers = { tools: 0, relics: 0, workers: 0 }
    const refuse = async (kind: keyof typeof answers, answer: Promise<Answer>) => {
      const { status, text } = await answer
      expect(status, text).toBe(409)
      expect(text).not.toContain(SECRET)
      answers[kind] += 1
    }
    await atOnce(4, Array.from({ length: SWAPS }), async (_, at) => {
      const common = { session_id, image: TOOLBOX, volumes: [{ source: asked, target: '/mnt' }] }
      if (at % 10 === 8)
        return refuse('relics', wall.client.post('/containers/relic/start', { relic_name: `r${at}`, ...common }))
      if (at % 10 === 9) {
        const request = { ...common, volumes: [], worker_id: `w${at}`, workspace: { host_path: asked } }
        return refuse('workers', wall.client.post('/containers/worker/start', request))
      }
      return refuse('tools', tool(asked))
    }).finally(stop)
    const swaps = await swapsOf(attacker.body.execution_id)
    expect(swaps).toBeGreaterThan(100)
    // With the attacker gone, there is nothing in the way.
    expect((await tool(asked)).body.stdout).toBe('of the root')
    await report('A folder that a container swaps (row 2)', { swaps, ...answers, refused: SWAPS, leaks: 0 })
  })

  it('is given to no attacker while a container has it', async () => {
    const { parent, asked } = await stage('after')
    const worker = { worker_id: 'victim', session_id, image: TOOLBOX, volumes: [{ source: asked, target: '/mnt' }] }
    expect((await wall.client.post('/containers/worker/start', worker)).status).toBe(201)
    const attacks = [
      () => tool(parent, { read_only: false, command: swapping(1) }),
      () => tool(root, { read_only: false, command: swapping(1) }),
      () =>
        wall.client.post('/containers/relic/start', {
          relic_name: 'attacker',
          session_id,
          image: TOOLBOX,
          volumes: [{ source: parent, target: '/mnt', read_only: false }],
        }),
      () =>
        wall.client.post('/containers/worker/start', {
          worker_id: 'attacker',
          session_id,
          image: TOOLBOX,
          workspace: { host_path: parent },
        }),
    ]
    const refused = async () => {
      for (const attack of attacks) {
        const { status, text } = await attack()
        expect(status, text).toBe(409)
      }
    }
    await refused()
    // It may be started again.
    await wall.client.post('/containers/worker/victim/stop')
    await refused()
    expect((await wall.client.post('/containers/worker/victim/restart')).status).toBe(200)
    await refused()
    expect(await readdir(parent)).toEqual(['asked', 'link'])
    await wall.client.delete('/containers/worker/victim')
    expect((await tool(parent, { read_only: false, command: swapping(1) })).body.stdout).toBe('1\n')
  })

  it(`is never given out together with the folder that it lies in, asked for at once ${ROUNDS} times`, async () => {
    const counts = { rounds: 0, swaps: 0, victim_refused: 0, attacker_refused: 0, one_after_the_other: 0 }
    await atOnce(2, Array.from({ length: ROUNDS }), async (_, at) => {
      const { parent, asked } = await stage(`round-${at}`)
      const attack = () => tool(parent, { read_only: false, command: swapping(200) })
      const calls = at % 2 === 0 ? [attack, () => tool(asked)] : [() => tool(asked), attack]
      // At the same moment, or with the second a little later: then it is the first that holds its folder.
      const answers = await Promise.all(calls.map((call, nth) => sleep(nth * (at % 4) * 25).then(call)))
      const [attacker, victim] = (at % 2 === 0 ? answers : answers.toReversed()) as [Answer, Answer]
      for (const { status, text } of answers) {
        expect([200, 409], text).toContain(status)
        expect(text).not.toContain(SECRET)
      }
      counts.rounds += 1
      counts.swaps += Number(attacker.body.stdout ?? 0)
      if (victim.status === 409) counts.victim_refused += 1
      if (attacker.status === 409) counts.attacker_refused += 1
      // One of them holds the folder in any case.
      expect(answers.some(({ status }) => status === 200)).toBe(true)
      if (answers.every(({ status }) => status === 200)) {
        counts.one_after_the_other += 1
        expect(overlap(attacker, victim)).toBe(false)
      }
    })
    expect(counts.victim_refused + counts.attacker_refused).toBeGreaterThan(0)
    await report('A folder, and the one that it lies in, at once (row 2)', { ...counts, leaks: 0 })
  })

  it('leads outside where both are given out, as the engine alone does', async () => {
    const { parent, asked, stop } = await stage('control')
    const label = { 'container-orchestrator-test.control': parent }
    const engine = await DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' })
    const image = await engine.images.inspect(TOOLBOX)
    const make = (own: Pick<ContainerSpec, 'command'> & Partial<ContainerSpec>) =>
      engine.containers.create(
        leastContainer({
          name: `swap-control-${at++}-${process.pid}`,
          imageId: image?.id ?? '',
          labels: label,
          ...own,
        }),
      )
    let at = 0
    let leaked = false
    let tries = 0
    try {
      const attacker = await make({
        // Who is gone for most of the time is missing, and nothing is mounted.
        command: swapping(ENDLESS, 'sleep 0.05'),
        mounts: [{ type: 'bind', source: parent, target: '/mnt', readOnly: false }],
      })
      await engine.containers.start(attacker)
      const until = performance.now() + CONTROL_MS
      while (!leaked && performance.now() < until) {
        tries += 1
        // It fails in the moments in which nothing is there.
        leaked = await make({
          command: ['grep', '-q', SECRET, '/mnt/file'],
          mounts: [{ type: 'bind', source: asked, target: '/mnt', readOnly: true }],
        })
          .then(async (id) => {
            await engine.containers.start(id)
            await engine.containers.wait(id)
            return (await engine.containers.inspect(id))?.exitCode === 0
          })
          .catch(() => false)
      }
    } finally {
      await stop()
      for (const { id } of await engine.containers.list(label)) await engine.containers.remove(id)
      await engine.close()
    }
    expect(leaked).toBe(true)
    await report('The same without the service: starts until one was led outside (control)', { tries })
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
