/**
 * Rows 1, 3 to 14, 17, 21, 22, 27, 28, 30, 31 and 38 to 40: what a caller may never ask the engine for, in
 * each spelling, nesting and repetition, wherever a caller's object comes in. Each is a 400, and nothing of
 * it is seen on the recorded socket; a control shows that it would have been.
 *
 * SECURITY_FIELDS sets about how many of all cases are taken (6,000; 100,000 with `--full`), evenly and
 * from a place that SECURITY_SEED moves.
 */
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, request, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { TOOLBOX } from '../fixtures/images.ts'
import { seed } from '../support/random.ts'
import { report } from '../support/report.ts'
import { type EngineRequest, SocketProxy } from '../support/socket-proxy.ts'
import { atOnce } from './support/at-once.ts'
import { forbidden, forbiddenIn } from './support/forbidden.ts'
import { attacks, surfaces } from './support/surfaces.ts'
import { asked, VECTORS } from './support/vectors.ts'
import { changes, Wall } from './support/wall.ts'

const WORKER = 'victim'
const SURFACES = surfaces(WORKER)

const CASES = Number(process.env['SECURITY_FIELDS'] ?? 8_000)
const SEED = seed()
const ALL = SURFACES.flatMap((surface) => VECTORS.map((vector) => attacks(surface, vector).length))
const STRIDE = Math.max(1, Math.round(ALL.reduce((sum, count) => sum + count, 0) / CASES))

let wall: Wall
let cases = 0

beforeAll(async () => {
  wall = await Wall.raise()
  const started = await wall.client.post('/containers/worker/start', { worker_id: WORKER, image: TOOLBOX })
  expect(started.status, started.text).toBe(201)
})
afterAll(() => wall.fall())

describe.each(SURFACES)('$name', (surface) => {
  it.each(VECTORS)('refuses row $row: $field $value', async (vector) => {
    const variants = attacks(surface, vector).filter((_, at) => (at + SEED) % STRIDE === 0)
    expect(variants.length).toBeGreaterThan(0)
    const told = await wall.during(() =>
      atOnce(16, variants, async ({ how, body }) => {
        const answer = await wall.client.send('POST', surface.path, body)
        expect([answer.status, answer.body?.code], `${how}: ${body.slice(0, 300)}`).toEqual([400, 'validation_failed'])
      }),
    )
    expect(changes(told)).toEqual([])
    cases += variants.length
  })
})

it('lets nothing forbidden through to the engine', async () => {
  expect(wall.socket.requests.length).toBeGreaterThan(0)
  expect(wall.breaches()).toEqual([])
  await report('Forbidden fields (rows 1 to 13, 21, 22, 27, 28, 30, 31)', {
    vectors: VECTORS.length,
    calls: SURFACES.length,
    cases,
    seed: SEED,
    'forbidden bytes on the socket': 0,
  })
})

describe('the recorder', () => {
  let folder: string
  let deaf: Server
  let socket: SocketProxy

  beforeAll(async () => {
    // An engine that knows nothing: what is forbidden is never really asked for.
    folder = await mkdtemp(join(tmpdir(), 'co-deaf-'))
    deaf = createServer((asked, answer) => {
      asked.resume().once('end', () => answer.writeHead(404).end())
    }).listen(join(folder, 'engine.sock'))
    await once(deaf, 'listening')
    socket = await SocketProxy.open(`unix://${join(folder, 'engine.sock')}`)
  })
  afterAll(async () => {
    await socket.close()
    deaf.close()
    await rm(folder, { recursive: true, force: true })
  })

  async function recorded(path: string, body: string): Promise<EngineRequest> {
    const calling = request({ socketPath: socket.host.slice('unix://'.length), path, method: 'POST', agent: false })
    calling.setHeader('content-type', 'application/json').end(body)
    const [answer] = await once(calling, 'response')
    await text(answer)
    const seen = socket.requests.at(-1)
    if (seen === undefined) throw new Error('nothing was recorded')
    return seen
  }

  it.each(VECTORS)('would have seen row $row: $field $value', async (vector) => {
    const { path, body } = asked(vector)
    const sent = body === undefined ? '' : JSON.stringify(body)
    // An engine reads keys without regard to case, and so does what looks at the recording.
    for (const spelled of [sent, sent.replaceAll(`"${vector.field}"`, `"${vector.field.toUpperCase()}"`)]) {
      expect(forbiddenIn(await recorded(path, spelled)), spelled).not.toEqual([])
    }
  })

  it('takes both of two fields of one name', async () => {
    const twice = '{"HostConfig":{"Privileged":true},"hostconfig":{"Privileged":false},"HostConfig":{}}'
    expect(forbiddenIn(await recorded('/containers/create', twice))).toEqual([
      'POST /containers/create: hostconfig.privileged = true',
      'POST /containers/create: hostconfig = {}',
    ])
  })

  it("takes the operator's parent cgroup for what it is, and no other", async () => {
    for (const parent of ['/containers', '/', '/containers/..', '']) {
      const asking = [
        await recorded('/containers/create', JSON.stringify({ HostConfig: { CgroupParent: parent } })),
        await recorded(`/build?cgroupparent=${encodeURIComponent(parent)}`, ''),
      ]
      const isTheirs = parent === '/containers'
      expect(forbidden(asking, { cgroupParent: '/containers' }), parent).toHaveLength(isTheirs ? 0 : 2)
      expect(forbidden(asking), parent).toHaveLength(2)
    }
  })

  it('takes the file of hosts of a container without a network for what it is, and no other', async () => {
    const hosts = {
      Type: 'bind',
      Source: '/var/lib/docker/volumes/toolbox_1b57f517_f285ad4a8a24_324df066/_data/hosts',
      Target: '/etc/hosts',
      ReadOnly: true,
      BindOptions: { Propagation: 'rslave' },
    }
    const alone = (mount: object, network: object = { NetworkDisabled: true }) =>
      recorded(
        '/containers/create',
        JSON.stringify({ ...network, HostConfig: { Mounts: [mount], NetworkMode: 'none' } }),
      )
    expect(forbiddenIn(await alone(hosts))).toEqual([])
    for (const change of [
      { Source: '/etc/shadow' },
      { Source: '/srv/volumes/toolbox_1/_data/hosts' },
      { Source: '/var/lib/docker/volumes/toolbox_1/_data/busybox' },
      { Target: '/etc/passwd' },
      { ReadOnly: false },
      { BindOptions: { Propagation: 'rshared' } },
    ]) {
      expect(forbiddenIn(await alone({ ...hosts, ...change })), JSON.stringify(change)).not.toEqual([])
    }
    expect(forbiddenIn(await alone(hosts, {}))).not.toEqual([])
  })

  it('allows no call but those that the service makes', async () => {
    for (const path of [
      '/swarm/init',
      '/plugins/pull',
      '/containers/prune',
      '/v1.41/containers/short/start',
      '/auth',
    ]) {
      expect(forbidden([await recorded(path, '')]), path).toHaveLength(1)
    }
  })
})
