/**
 * Rows 20 and 25: ids in URLs that are none, that climb, or that mean somebody else's. Nothing of a caller's
 * id gets into a path of the engine: what is asked there are full ids of our own containers, or nothing.
 *
 * SECURITY_IDS sets how many ids are tried (2,000; 10,000 with `--full`), SECURITY_SEED replays.
 */
import { randomBytes } from 'node:crypto'
import { request } from 'node:http'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { TOOLBOX } from '../fixtures/images.ts'
import { newSession } from '../fixtures/sessions.ts'
import { Random, seed } from '../support/random.ts'
import { report } from '../support/report.ts'
import { atOnce } from './support/at-once.ts'
import { changes, Wall } from './support/wall.ts'

const IDS = Number(process.env['SECURITY_IDS'] ?? 2_000)
const SEED = seed()
const session_id = newSession('ids')

/** Of each kind of thing, with ":id" in the place of its id. */
const ROUTES: readonly (readonly [method: string, path: string])[] = [
  ['GET', '/containers/tool/:id'],
  ['GET', '/containers/tool/:id/logs'],
  ['GET', '/containers/tool/:id/artifacts'],
  ['GET', '/containers/tool/:id/artifacts/x'],
  ['POST', '/containers/tool/:id/cancel'],
  ['GET', '/containers/relic/:id'],
  ['GET', '/containers/relic/:id/logs'],
  ['GET', '/containers/relic/:id/health'],
  ['POST', '/containers/relic/:id/stop'],
  ['POST', '/containers/relic/:id/restart'],
  ['DELETE', '/containers/relic/:id'],
  ['GET', '/containers/worker/:id'],
  ['GET', '/containers/worker/:id/logs'],
  ['GET', '/containers/worker/:id/stats'],
  ['GET', '/containers/worker/:id/health'],
  ['GET', '/containers/worker/:id/exec'],
  ['GET', '/containers/worker/:id/exec/x'],
  ['GET', '/containers/worker/:id/files/x'],
  ['POST', '/containers/worker/:id/stop'],
  ['POST', '/containers/worker/:id/pause'],
  ['POST', '/containers/worker/:id/snapshot'],
  ['DELETE', '/containers/worker/:id'],
  ['GET', '/containers/stats/:id'],
  ['GET', '/sessions/:id'],
]

let wall: Wall
/** A container that is nobody's business, and has a name like a short id of ours. */
let stranger: string
let own: string

beforeAll(async () => {
  wall = await Wall.raise()
  const worker = await wall.client.post('/containers/worker/start', { worker_id: 'own', session_id, image: TOOLBOX })
  expect(worker.status, worker.text).toBe(201)
  own = worker.body.container_id
  const image = await wall.service.engine.images.inspect(TOOLBOX)
  stranger = await wall.service.engine.containers.create({
    name: own.slice(0, 12),
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
  })
})
afterAll(async () => {
  await wall.service.engine.containers.remove(stranger)
  await wall.fall()
})

const TRAVERSALS = [
  '..',
  '.',
  '../..',
  '....',
  '..;',
  '%2e%2e',
  '%2E%2E',
  '..%2f',
  '..%5c',
  '%252e%252e',
  '..%252f',
  '..%c0%af',
]
const TARGETS = [
  'containers/json',
  'images/json',
  'info',
  '_ping',
  'version',
  'secrets',
  'swarm',
  'containers/prune',
  '',
]
const ODD = [
  '%00',
  '%0d%0aX:%20y',
  '%20',
  '%3f',
  '%23',
  '?all=1',
  '%ff',
  '%',
  '%zz',
  '\\',
  '%5c',
  '@',
  ':',
  '%2f%2f',
  '~',
  '*',
]

/** An id that nothing has, made of one that something has, of paths, or of noise. */
function mutated(random: Random): string {
  const pick = <T>(list: readonly T[]): T => list[random.between(0, list.length - 1)] as T
  const hex = () => randomBytesOf(random, 32)
  const seeds = [
    own,
    stranger,
    own.slice(0, 12),
    stranger.slice(0, 12),
    hex(),
    'exec_x',
    'relic_x',
    'owN',
    '1',
    '-1',
    'null',
  ]
  const base = pick(seeds)
  switch (random.between(0, 7)) {
    case 0:
      return pick(TRAVERSALS) + pick(['/', '%2F', '%2f', '%252F', '\\', '']) + pick(TARGETS).replaceAll('/', '%2F')
    case 1:
      return `${base}${pick(['%2F', '%2f..%2f', '/../', '%252F'])}${pick(TARGETS).replaceAll('/', '%2F')}`
    case 2: {
      const at = random.between(0, base.length)
      return base.slice(0, at) + pick(ODD) + base.slice(at)
    }
    case 3:
      return base.slice(0, random.between(1, base.length - 1))
    case 4:
      return base.toUpperCase() === base ? `${base}x` : base.toUpperCase()
    case 5:
      return Array.from({ length: random.between(1, 20) }, () => pick([...ODD, ...TRAVERSALS, 'a', '0', '_'])).join('')
    case 6:
      return `${base}${pick(ODD)}${'%2e%2e%2f'.repeat(random.between(1, 8))}${pick(TARGETS).replaceAll('/', '%2f')}`
    default:
      return `${pick(['..%2F', '%2F', ''])}v1.41%2F${pick(TARGETS).replaceAll('/', '%2F')}${pick(['', '%3Fall=1', '%00'])}`
  }
}

function randomBytesOf(random: Random, count: number): string {
  return Array.from({ length: count }, () => random.between(0, 255).toString(16).padStart(2, '0')).join('')
}

/** As the bytes stand: `fetch` would mend a path before it is sent. */
function send(method: string, path: string): Promise<number> {
  const { hostname, port } = new URL(wall.service.url)
  return new Promise((resolve, reject) => {
    const calling = request({ hostname, port, method, path, agent: false }, (answer) => {
      answer.resume().once('end', () => resolve(answer.statusCode ?? 0))
    })
    calling.once('error', reject).end()
  })
}

describe('row 20: ids', () => {
  it(`of which ${IDS} are none, ask the engine for nothing (seed ${SEED})`, async () => {
    const ours = new Set([own])
    const attempts = Array.from({ length: IDS }, (_, number) => {
      const random = new Random(SEED + number * 7_919)
      const [method, path] = ROUTES[number % ROUTES.length] as readonly [string, string]
      return { method, path: path.replace(':id', mutated(random)) }
    })
    const statuses = new Map<number, number>()
    const asked = await wall.during(() =>
      atOnce(8, attempts, async ({ method, path }) => {
        const status = await send(method, path)
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
        // A path that climbs in clear is another of our own paths, or none.
        const isRead = method === 'GET' && status === 200
        if (!isRead) expect([204, 400, 404, 405, 414], `${method} ${path}: ${status}`).toContain(status)
      }),
    )
    const unexpected = asked.filter(({ path }) => {
      const [, id] = /^\/v1\.\d+\/(?:containers|exec|networks)\/([^/?]+)/.exec(path) ?? []
      return id !== undefined && !['json', 'create'].includes(id) && !ours.has(id)
    })
    expect(unexpected.map(({ method, path }) => `${method} ${path}`)).toEqual([])
    expect(changes(asked)).toEqual([])
    expect(wall.breaches()).toEqual([])
    await report('Ids of none (row 20)', {
      ids: IDS,
      routes: ROUTES.length,
      seed: SEED,
      'unexpected paths on the socket': 0,
    })
  })

  it('that are a full id of somebody else’s are nobody’s', async () => {
    const asked = await wall.during(async () => {
      for (const [method, path] of ROUTES) {
        for (const id of [stranger, stranger.slice(0, 12), own.slice(0, 12), randomBytes(32).toString('hex')]) {
          expect([204, 400, 404], `${method} ${path} ${id}`).toContain(await send(method, path.replace(':id', id)))
        }
      }
    })
    expect(changes(asked)).toEqual([])
    expect(asked.filter(({ path }) => path.includes(stranger))).toEqual([])
    expect((await wall.service.engine.containers.inspect(stranger))?.status).toBe('created')
  })

  it('of a container of ours is looked up, and asked for in full', async () => {
    const asked = await wall.during(async () => {
      expect(await send('GET', `/containers/stats/${own}`)).toBe(200)
      expect(await send('POST', '/containers/worker/own/stop')).toBe(200)
    })
    expect(asked.some(({ path }) => path.includes(`/containers/${own}/stop`))).toBe(true)
  })
})
