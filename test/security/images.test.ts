/**
 * Rows 24, 26, 27 and 28: images that say what is not so, that move, that bring what nobody asked for, and
 * builds that ask the daemon for things. Nothing of others goes, and nothing is fetched.
 */
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { askEngine } from '../../scripts/engine-client.ts'
import type { ContainerSpec } from '../../src/engine/spec.ts'
import { encodeLabels, type Kind } from '../../src/labels.ts'
import { sh } from '../fixtures/client.ts'
import { TOOLBOX } from '../fixtures/images.ts'
import { newSession } from '../fixtures/sessions.ts'
import { report } from '../support/report.ts'
import { buildOnEngine, removeFromEngine, tagOnEngine } from './support/engine-image.ts'
import { Wall } from './support/wall.ts'

let wall: Wall
const made: string[] = []
const strangers: string[] = []

beforeAll(async () => {
  wall = await Wall.raise()
})
afterAll(async () => {
  expect(wall.breaches()).toEqual([])
  for (const id of strangers) await wall.service.engine.containers.remove(id)
  await wall.fall()
  for (const tag of made) await removeFromEngine(tag)
})

async function imageOf(dockerfile: string): Promise<string> {
  const tag = await buildOnEngine(dockerfile)
  made.push(tag)
  return tag
}

/** A container that somebody makes of an image, without the service. */
async function strangerOf(reference: string): Promise<string> {
  const image = await wall.service.engine.images.inspect(reference)
  const spec: ContainerSpec = {
    name: `stranger_${strangers.length}_${process.pid}`,
    imageId: image?.id ?? '',
    command: ['true'],
    environment: {},
    labels: {},
    openStdin: false,
    resources: { memoryBytes: 16 * 1024 * 1024, cpus: 1, pids: 8, openFiles: { soft: 64, hard: 64 } },
    sandbox: { readonlyRoot: true, capabilities: [], tmpfs: [] },
    mounts: [],
    network: { mode: 'none' },
    ports: [],
  }
  const id = await wall.service.engine.containers.create(spec)
  strangers.push(id)
  return id
}

async function cleanEverything(session_id: string): Promise<void> {
  for (const [path, body] of [
    ['/containers/cleanup/session', { session_id, force: true }],
    ['/containers/cleanup/all-networks', { force: true }],
    ['/containers/cleanup/orphans', {}],
  ] as const) {
    const answer = await wall.client.post(path, body)
    expect([answer.status, answer.body.errors], answer.text).toEqual([200, []])
  }
  await wall.service.services.reconciler.sweep({ dryRun: false, graceMs: 0 })
}

interface Details {
  Image: string
  Config: { Labels: Record<string, string>; Healthcheck?: { Test: string[] }; StopSignal?: string; Tty: boolean }
  Mounts: { Type: string; Name: string; Destination: string }[]
}
const inspect = (id: string) => askEngine<Details>('GET', `/containers/${id}/json`)

describe('row 24: labels of images that spoof ours', () => {
  const SPOOFED: readonly Kind[] = ['tool', 'relic', 'worker']

  it('become a container’s only where they are not ours', async () => {
    const victim = newSession('victim')
    for (const kind of SPOOFED) {
      const fields = {
        instance: '00000000-0000-4000-8000-000000000000',
        kind,
        id: 'exec_spoofed',
        session: victim,
        owner: 'somebody',
        name: 'spoofed',
        nonce: 'spoofed',
      }
      const labels = Object.entries(encodeLabels(fields)).map(([name, value]) => `LABEL ${name}="${value}"`)
      const image = await imageOf(`FROM ${TOOLBOX}\n${labels.join('\n')}\n`)
      // Without a session, so that there is no word of ours to take the place of the image's.
      const started = await wall.client.post('/containers/worker/start', { worker_id: `w-${kind}`, image })
      expect(started.status, started.text).toBe(201)
      const { Config } = await inspect(started.body.container_id)
      for (const [name, value] of Object.entries(encodeLabels(fields))) {
        if (name.endsWith('.kind') && value === 'worker') continue
        expect(Config.Labels[name], name).not.toBe(value)
      }
      await wall.client.post('/containers/cleanup/session', { session_id: victim, force: true })
      expect((await wall.client.get(`/containers/worker/w-${kind}`)).body.status).toBe('running')
      expect((await wall.client.delete(`/containers/worker/w-${kind}`)).status).toBe(204)
    }
  })

  it('never make others’ containers and images ours: none of them goes', async () => {
    const session_id = newSession('spoof')
    // What is built for a session bears our labels, and so does what others make of it.
    const run = await wall.client.run({
      session_id,
      image: undefined,
      dockerfile: `FROM ${TOOLBOX}\n`,
      command: ['true'],
    })
    expect(run).toMatchObject({ status: 'completed' })
    const worker = await wall.client.post('/containers/worker/start', {
      worker_id: 'shown',
      session_id,
      image: TOOLBOX,
    })
    expect(worker.status).toBe(201)
    const snapshot = await wall.client.post('/containers/worker/shown/snapshot', { name: 'of-shown' })
    expect(snapshot.status, snapshot.text).toBe(201)
    const theirs = await imageOf(`FROM ${run.image}\nENV THEIRS=1\n`)
    const theirImage = (await wall.service.engine.images.inspect(theirs))?.id
    // With our instance and session in their labels, by way of their image.
    for (const reference of [run.image, theirs, snapshot.body.image]) await strangerOf(reference)
    for (const kind of ['network', 'volume', 'image'] as const) {
      const labels = Object.entries(
        encodeLabels({ instance: wall.service.instance, kind, id: 'x', session: session_id, nonce: 'x' }),
      )
      const image = await imageOf(
        `FROM ${TOOLBOX}\n${labels.map(([name, value]) => `LABEL ${name}="${value}"`).join('\n')}\n`,
      )
      await strangerOf(image)
    }
    await wall.client.delete('/containers/worker/shown')
    await cleanEverything(session_id)
    for (const id of strangers) expect((await wall.service.engine.containers.inspect(id))?.status, id).toBe('created')
    expect((await wall.service.engine.images.inspect(theirs))?.id).toBe(theirImage)
    await report('Images that spoof labels (row 24)', {
      strangers: strangers.length,
      'foreign deletes': 0,
    })
  })

  it('cannot be given by a caller', async () => {
    for (const label of ['container-orchestrator', 'container-orchestrator.instance', 'container-orchestrator.x']) {
      const answer = await wall.client.post('/containers/tool/execute', {
        tool_name: 't',
        session_id: 's',
        image: TOOLBOX,
        labels: { [label]: wall.service.instance },
      })
      expect([answer.status, answer.body.code], label).toEqual([403, 'policy_denied'])
    }
  })
})

describe('row 26: an image that moves', () => {
  it('is run by the id that it had when it was allowed, and a build takes no other’s tag', async () => {
    const [first, second] = [
      await imageOf(`FROM ${TOOLBOX}\nENV OF=first\n`),
      await imageOf(`FROM ${TOOLBOX}\nENV OF=second\n`),
    ]
    const moving = 'container-orchestrator-test/moving:1'
    await tagOnEngine(first, moving)
    made.push(moving)
    const told = await wall.during(async () => {
      const running = wall.client.run({ session_id: newSession(), image: moving, command: sh('sleep 1; echo $OF') })
      await new Promise((resolve) => setTimeout(resolve, 500))
      await tagOnEngine(second, moving)
      expect((await running).stdout).toBe('first\n')
    })
    const creates = told.filter(({ path }) => path.includes('/containers/create'))
    expect(creates.length).toBeGreaterThan(0)
    for (const { body } of creates) expect(JSON.parse(body.toString()).Image).toMatch(/^sha256:[0-9a-f]{64}$/)
    const session_id = newSession()
    const dockerfile = `FROM ${TOOLBOX}\nLABEL a=b\n`
    const builds = await wall.during(() =>
      wall.client.run({ session_id, image: undefined, dockerfile, command: ['true'] }),
    )
    const [build] = builds.filter(({ path }) => path.includes('/build?'))
    const tag = new URLSearchParams(build?.path.split('?')[1]).get('t')
    expect(tag).toMatch(/^container-orchestrator\/build:[0-9a-f]{32}$/)
    await wall.client.post('/containers/cleanup/session', { session_id, force: true })
  })
})

describe('row 27: what an image brings along', () => {
  it('is overridden, and its volumes go with the container', async () => {
    const image = await imageOf(
      `FROM ${TOOLBOX}\nVOLUME /etc /evil\nHEALTHCHECK --interval=1s CMD touch /tmp/checked\nSTOPSIGNAL SIGKILL\nUSER 0\nENV PATH=/bin LD_PRELOAD=/evil.so\nENTRYPOINT ["sh"]\n`,
    )
    const relic = await wall.client.post('/containers/relic/start', {
      relic_name: 'evil',
      session_id: newSession('evil'),
      image,
      entrypoint: ['sleep'],
      command: ['600'],
      health_check_endpoint: null,
    })
    expect(relic.status, relic.text).toBe(201)
    const details = await inspect(relic.body.container_id)
    expect(details.Config.Healthcheck?.Test).toEqual(['NONE'])
    expect(details.Config.StopSignal).toBe('SIGTERM')
    const anonymous = details.Mounts.filter(({ Destination }) => ['/etc', '/evil'].includes(Destination))
    const volumes = anonymous.map(({ Name }) => Name)
    expect(volumes).toHaveLength(2)
    expect((await wall.client.delete(`/containers/relic/${relic.body.relic_id}`)).status).toBe(204)
    for (const name of volumes) expect(await wall.service.engine.volumes.inspect(name), name).toBeUndefined()
    expect(wall.breaches()).toEqual([])
  })

  it('is no working directory of the kernel (row 31)', async () => {
    const session_id = newSession('workdir')
    for (const folder of ['/proc/self/fd/7', '/sys/fs', '/a/../proc/self']) {
      const image = await imageOf(`FROM ${TOOLBOX}\nWORKDIR ${folder}\n`)
      const run = await wall.client.post('/containers/tool/execute', {
        tool_name: 't',
        session_id,
        image,
        command: ['true'],
      })
      expect(run.body.status, run.text).not.toBe('completed')
      const relic = await wall.client.post('/containers/relic/start', { relic_name: 'kernel', session_id, image })
      expect([relic.status, relic.body.rule], relic.text).toEqual([403, 'working_dir'])
      expect(await wall.service.services.docker.list({ session: session_id })).toEqual([])
      // A worker never starts in its image's folder.
      const worker = await wall.client.post('/containers/worker/start', { worker_id: 'kernel', session_id, image })
      expect(worker.status, worker.text).toBe(201)
      expect(await askEngine('GET', `/containers/${worker.body.container_id}/json`)).toMatchObject({
        Config: { WorkingDir: '/workspace' },
      })
      await wall.client.delete('/containers/worker/kernel')
    }
    await wall.client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it('does not make a worker root', async () => {
    const image = await imageOf(`FROM ${TOOLBOX}\nUSER root\n`)
    const started = await wall.client.post('/containers/worker/start', { worker_id: 'unrooted', image })
    expect(started.status, started.text).toBe(201)
    const { body } = await wall.client.post('/containers/worker/unrooted/exec', { command: 'id -u' })
    expect(body.stdout).not.toBe('0\n')
    await wall.client.delete('/containers/worker/unrooted')
  })
})

describe('row 28: builds', () => {
  let listener: Server
  let port: number
  let hits = 0
  beforeAll(async () => {
    listener = createServer((socket) => {
      hits += 1
      socket.on('error', () => {}).end('HTTP/1.0 200 OK\r\n\r\nFROM scratch\n')
    }).listen(0, '0.0.0.0')
    await once(listener, 'listening')
    port = (listener.address() as { port: number }).port
  })
  afterAll(() => {
    listener.close()
  })

  it('make the daemon fetch nothing for a caller', async () => {
    const address = `http://127.0.0.1:${port}`
    const dockerfiles = [
      `FROM ${TOOLBOX}\nADD ${address}/x /x\n`,
      `FROM ${TOOLBOX}\nADD ["${address}/x", "/x"]\n`,
      `FROM ${TOOLBOX}\nADD \\\n${address}/x \\\n/x\n`,
      `FROM ${TOOLBOX}\nADD 127.0.0.1:${port}/x.git#main /x\n`,
      `FROM ${TOOLBOX}\nARG A=${address}\nADD \${A}/x /x\n`,
      `# syntax=127.0.0.1:${port}/x\nFROM ${TOOLBOX}\n`,
      `FROM ${TOOLBOX} AS a\nONBUILD ADD ${address}/x /x\nFROM a\n`,
    ]
    for (const dockerfile of dockerfiles) {
      const session_id = newSession('fetch')
      const answer = await wall.client.post('/containers/tool/execute', { tool_name: 't', session_id, dockerfile })
      expect([answer.status, answer.body.code], dockerfile).toEqual([403, 'policy_denied'])
    }
    expect(hits).toBe(0)
    // The listener would have been heard: the engine's own answer to what the service refuses to send.
    await expect(
      buildOnEngine(`FROM ${TOOLBOX}\nADD ${address}/x /x\n`).then((tag) => made.push(tag)),
    ).resolves.toBeTypeOf('number')
    expect(hits).toBe(1)
    await report('Builds that fetch (row 28)', {
      dockerfiles: dockerfiles.length,
      hits: 0,
      'hits of the control': hits,
    })
  })
})
