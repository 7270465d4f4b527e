/** The service in this process, on an engine of either kind, with decoys of somebody else's beside it. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { pino } from 'pino'
import { buildApp } from '../../../src/app.ts'
import { loadConfig } from '../../../src/config.ts'
import type { Engine, EngineInfo } from '../../../src/engine/engine.ts'
import { encodeLabels, type Kind, ownedBy } from '../../../src/labels.ts'
import { HostPaths } from '../../../src/managers/host-paths.ts'
import { buildServices } from '../../../src/services.ts'
import { Store } from '../../../src/store/store.ts'
import { leastContainer } from '../../fixtures/container-spec.ts'
import { TOOLBOX } from '../../fixtures/images.ts'
import { removeAll } from '../../fixtures/service.ts'
import { slowed } from './slowed.ts'

/** What the two engines are expected to differ in. */
export interface Subject {
  name: string
  /** Setting that leaves the other one out. */
  only: string
  open(): Promise<Engine & { connect(): Promise<EngineInfo> }>
  /** Failure of what needs an image that cannot be had. */
  unpullable: 'image_not_found' | 'pull_failed'
  subnets: string
  decoySubnet: string
  /** How long what is on its way may take. */
  settleMs: number
}

export interface Reply {
  status: number
  // biome-ignore lint/suspicious/noExplicitAny: a test reads whatever the service sends
  body: any
}

/** Tools that run at once: few, so that some wait. */
export const SLOTS = 3

type Engineer = Engine & { connect(): Promise<EngineInfo> }
type Services = ReturnType<typeof buildServices>

export class World {
  readonly subject: Subject
  readonly engine: Engineer
  readonly #dataDir: string
  readonly #stranger = randomUUID()
  #decoys: readonly string[] = []
  #store: Store | undefined
  #services: Services | undefined
  #app: FastifyInstance | undefined

  /** As the service sees it. */
  readonly #served: Engineer

  private constructor(subject: Subject, engine: Engineer, dataDir: string, slowness: number | undefined) {
    this.subject = subject
    this.engine = engine
    this.#served = slowness === undefined ? engine : slowed(engine, slowness)
    this.#dataDir = dataDir
  }

  /** `session` is what decoys are in, too; `slowness` seeds the pauses of the engine's calls. */
  static async open(subject: Subject, session: string, slowness?: number): Promise<World> {
    const world = new World(subject, await subject.open(), await mkdtemp(join(tmpdir(), 'co-model-')), slowness)
    await world.#placeDecoys(session)
    await world.start()
    return world
  }

  get services(): Services {
    if (this.#services === undefined) throw new Error('the service does not run')
    return this.#services
  }

  get instance(): string {
    if (this.#store === undefined) throw new Error('the store is not open')
    return this.#store.instance
  }

  /** What main.ts does, without a socket. */
  async start(): Promise<void> {
    const config = loadConfig(
      {
        CO_DATA_DIR: this.#dataDir,
        CO_SESSION_SUBNETS: this.subject.subnets,
        CO_MAX_CONCURRENT_RUNS: String(SLOTS),
        // What is parked comes and goes in its own time, of which the model knows nothing.
        CO_POOL_MAX: '0',
      },
      '/nonexistent',
    )
    const log = pino({ level: process.env['CO_TEST_LOG'] ?? 'silent' })
    const engineInfo = await this.engine.connect()
    this.#store = await Store.open(this.#dataDir)
    this.#services = buildServices({
      config,
      engine: this.#served,
      engineInfo,
      store: this.#store,
      hostPaths: new HostPaths(),
      log,
    })
    this.#app = await buildApp({ services: this.#services, log })
    await this.#services.reconciler.recover()
    this.#services.reconciler.begin()
  }

  async stop(): Promise<void> {
    await this.#services?.drain(0)
    await this.#app?.close()
    await this.#store?.close()
  }

  async call(method: string, url: string, body?: object, headers: Record<string, string> = {}): Promise<Reply> {
    if (this.#app === undefined) throw new Error('the service does not run')
    const answer = await this.#app.inject({
      method: method as 'GET',
      url,
      headers,
      ...(body === undefined ? {} : { payload: body }),
    })
    const isJson = String(answer.headers['content-type'] ?? '').includes('json')
    return { status: answer.statusCode, body: isJson ? answer.json() : answer.body }
  }

  get(url: string): Promise<Reply> {
    return this.call('GET', url)
  }

  post(url: string, body?: object, headers?: Record<string, string>): Promise<Reply> {
    return this.call('POST', url, body, headers)
  }

  /** All that the service does off its answers' path is done. */
  async settled(): Promise<void> {
    await this.services.docker.settled()
  }

  /** Leaves nothing, whatever the sequence left. */
  async close(): Promise<void> {
    const instance = this.#store?.instance
    await this.stop()
    if (instance !== undefined) await removeAll(this.engine, instance)
    await removeAll(this.engine, this.#stranger)
    await this.engine.close()
    await rm(this.#dataDir, { recursive: true, force: true })
  }

  /** Puts a container on the engine that bears this instance's labels, and that no record claims. */
  async plantOrphan(): Promise<string> {
    const image = await this.#imageId()
    const id = randomUUID()
    const labels = encodeLabels({ instance: this.instance, kind: 'tool', id, nonce: id })
    return this.engine.containers.create(leastContainer({ name: `orphan_${id}`, imageId: image, labels }))
  }

  /** Decoys as they are now; they are to stay as they were made. */
  async decoys(): Promise<{ now: readonly string[]; made: readonly string[] }> {
    return { now: await this.#seenDecoys(), made: this.#decoys }
  }

  /** Another installation's: with the session and the names that ours use. */
  async #placeDecoys(session: string): Promise<void> {
    const labels = (kind: Kind, name: string) =>
      encodeLabels({ instance: this.#stranger, kind, id: `${kind}_${name}`, session, name, nonce: randomUUID() })
    const image = await this.#imageId()
    const unique = this.#stranger.slice(0, 8)
    const networkId = await this.engine.networks.create({
      name: `decoy_${unique}`,
      subnet: this.subject.decoySubnet,
      internal: true,
      isolated: false,
      labels: labels('network', 'decoy'),
    })
    await this.engine.volumes.create(`decoy_${unique}`, labels('volume', 'data'))
    for (const kind of ['tool', 'relic', 'worker'] as const) {
      const id = await this.engine.containers.create(
        leastContainer({
          name: `decoy_${kind}_${unique}`,
          imageId: image,
          command: ['sleep', '86400'],
          labels: labels(kind, kind === 'worker' ? 'w1' : 'r0'),
          network: kind === 'relic' ? { mode: 'network', networkId, aliases: [] } : { mode: 'none' },
          mounts: [{ type: 'volume', source: `decoy_${unique}`, target: '/data', readOnly: false }],
        }),
      )
      if (kind !== 'tool') await this.engine.containers.start(id)
    }
    this.#decoys = await this.#seenDecoys()
  }

  async #seenDecoys(): Promise<readonly string[]> {
    const labels = ownedBy(this.#stranger)
    const [containers, networks, volumes] = await Promise.all([
      this.engine.containers.list(labels),
      this.engine.networks.list(labels),
      this.engine.volumes.list(labels),
    ])
    return [
      ...containers.map(({ id, status }) => `container ${id} ${status}`),
      ...networks.map(({ id }) => `network ${id}`),
      ...volumes.map(({ name }) => `volume ${name}`),
    ].toSorted()
  }

  async #imageId(): Promise<string> {
    const image = await this.engine.images.inspect(TOOLBOX)
    if (image === undefined) throw new Error(`the engine has no image ${TOOLBOX}`)
    return image.id
  }
}

/** Asks again and again until the answer is the one that is wanted; the last answer where it never is. */
export async function eventually<T>(
  { subject }: World,
  ask: () => Promise<T>,
  isWanted: (answer: T) => boolean,
): Promise<T> {
  const until = Date.now() + subject.settleMs
  for (let pause = 1; ; pause = Math.min(pause * 2, 100)) {
    const answer = await ask()
    if (isWanted(answer) || Date.now() > until) return answer
    await sleep(pause)
  }
}
