import Dockerode from 'dockerode'
import { z } from 'zod'
import { EngineError } from '../../errors.ts'
import type { Labels } from '../../labels.ts'
import type { Availability } from '../availability.ts'
import type { ContainerState, Engine, EngineEvent, EngineInfo } from '../engine.ts'
import { HalfClose } from '../half-close.ts'
import type { NetworkIsolation } from '../spec.ts'
import { Breaker } from './breaker.ts'
import { ControlClient, checked } from './control-client.ts'
import { DockerContainers, labelFilter } from './docker-containers.ts'
import { DockerImages } from './docker-images.ts'
import { DockerNetworks } from './docker-networks.ts'
import { DockerVolumes } from './docker-volumes.ts'
import { type EngineAddress, parseEndpoint } from './endpoint.ts'
import { fullId } from './ids.ts'
import { jsonLines } from './json-lines.ts'
import { guarded, StreamClient } from './stream-client.ts'

/** Oldest and newest Engine API that the adapter is written against. */
const API_FLOOR = '1.41'
const API_CEILING = '1.51'
const PING_DEADLINE_MS = 3_000
/** An engine that is busy takes its time for `/info`, which is no reason not to start. */
const CONNECT_DEADLINE_MS = 15_000
const EVENTS_DEADLINE_MS = 10_000
/** From when a container is made, by its own word, to when the engine tells of it. */
const MAKING_MS = 10_000

const ApiVersion = z.string().regex(/^1\.\d{1,3}$/, 'not an API version')

const Version = z.looseObject({
  Version: z.string(),
  ApiVersion: ApiVersion,
  MinAPIVersion: ApiVersion.nullish(),
  Os: z.string().nullish(),
  Arch: z.string().nullish(),
  KernelVersion: z.string().nullish(),
  Components: z.array(z.looseObject({ Name: z.string(), Version: z.string().nullish() })).nullish(),
})

const Info = z.looseObject({
  NCPU: z.int().positive(),
  MemTotal: z.int().positive(),
  Driver: z.string().nullish(),
  DockerRootDir: z.string().nullish(),
  Runtimes: z.record(z.string(), z.unknown()).nullish(),
})

const EventMessage = z.looseObject({
  Action: z.string(),
  Actor: z.looseObject({ ID: z.string() }),
  /** Nanoseconds since 1970: more than a number holds exactly, and exact enough. */
  timeNano: z.number().min(0).max(8.64e21),
})

/** The Docker Engine API over dockerode (calls that answer once) and undici (calls that last). */
export class DockerEngine implements Engine {
  readonly containers: DockerContainers
  readonly networks: DockerNetworks
  readonly images: DockerImages
  readonly volumes: DockerVolumes
  readonly #docker: Dockerode
  readonly availability: Availability
  readonly halfClose = new HalfClose()
  readonly #breaker: Breaker
  readonly #control: ControlClient
  readonly #streams: StreamClient

  /** Does no I/O; `connect` does. Throws an `Error` for an address that cannot be read. */
  constructor(address: EngineAddress) {
    const endpoint = parseEndpoint(address)
    this.#docker =
      'socketPath' in endpoint
        ? new Dockerode({ socketPath: endpoint.socketPath })
        : new Dockerode({
            host: endpoint.host,
            port: endpoint.port,
            protocol: endpoint.tls ? 'https' : 'http',
            ...(endpoint.tls ?? {}),
          })
    this.#breaker = new Breaker(() => this.#signOfLife())
    this.availability = this.#breaker.availability
    this.#control = new ControlClient(this.#docker, this.#breaker)
    this.#streams = new StreamClient(endpoint, this.#breaker)
    this.containers = new DockerContainers(this.#control, this.#streams)
    this.networks = new DockerNetworks(this.#control)
    this.images = new DockerImages(this.#control, this.#streams)
    this.volumes = new DockerVolumes(this.#control)
  }

  /** A connected engine; rejects where none answers. */
  static async open(address: EngineAddress): Promise<DockerEngine> {
    const engine = new DockerEngine(address)
    await engine.connect()
    return engine
  }

  async connect(): Promise<EngineInfo> {
    const request = { doing: 'connecting', method: 'GET', deadlineMs: CONNECT_DEADLINE_MS } as const
    const version = await this.#control.read(Version, { ...request, path: '/version' })
    const negotiated = negotiate(version.ApiVersion, version.MinAPIVersion ?? API_FLOOR)
    // The modem reads the field on each request; its types leave it out.
    Object.assign(this.#docker.modem, { version: `v${negotiated}` })
    this.#streams.version = `/v${negotiated}`
    const info = await this.#control.read(Info, { ...request, path: '/info' })
    this.#breaker.watch()
    const podman = (version.Components ?? []).some((component) => component.Name.startsWith('Podman'))
    const runc = version.Components?.find((component) => component.Name === 'runc')?.Version
    return {
      name: podman ? 'podman' : 'docker',
      version: version.Version,
      apiVersion: negotiated,
      os: version.Os ?? 'linux',
      arch: version.Arch ?? 'unknown',
      kernel: version.KernelVersion ?? 'unknown',
      cores: info.NCPU,
      memoryBytes: info.MemTotal,
      storageDriver: info.Driver ?? 'unknown',
      dataRoot: info.DockerRootDir ?? '',
      runtimes: Object.keys(info.Runtimes ?? {}),
      ...(runc ? { runc } : {}),
      capabilities: {
        gpu: info.Runtimes?.['nvidia'] !== undefined,
        // Podman 4 never sets the flag.
        oomFlag: !(podman && version.Version.startsWith('4.')),
        // Docker 26 takes it from the cgroup; older ones have it wait for the round that all streams share.
        oneShotStats: !podman && minor(version.ApiVersion) >= 45,
        isolation: podman ? 'none' : strongestIsolation(version.Version),
      },
    }
  }

  async ping(): Promise<void> {
    try {
      await this.#signOfLife()
    } catch (error) {
      void this.#breaker.suspect()
      throw error
    }
  }

  async #signOfLife(): Promise<void> {
    await this.#control.probe({ doing: 'pinging', method: 'GET', path: '/_ping', deadlineMs: PING_DEADLINE_MS })
  }

  async events(labels: Labels, signal: AbortSignal): Promise<AsyncIterable<EngineEvent>> {
    const doing = 'following events'
    const { body } = await this.#streams.open({
      doing,
      method: 'GET',
      path: '/events',
      query: { filters: labelFilter(labels, { type: ['container'] }) },
      signal,
      answerWithinMs: EVENTS_DEADLINE_MS,
    })
    return eventsOf(doing, guarded(doing, jsonLines(body), signal))
  }

  /** The last 256 events are kept in memory alone. What is asked for lies about the making, by the engine's own clock. */
  async remembersMaking({ id, createdAt }: Pick<ContainerState, 'id' | 'createdAt'>): Promise<boolean> {
    const doing = `asking whether container ${fullId(id)} was made since the engine is up`
    const signal = AbortSignal.timeout(MAKING_MS + EVENTS_DEADLINE_MS)
    const seconds = (offsetMs: number) => ((createdAt.getTime() + offsetMs) / 1000).toFixed(3)
    const { body } = await this.#streams.open({
      doing,
      method: 'GET',
      path: '/events',
      query: {
        since: seconds(-MAKING_MS),
        until: seconds(MAKING_MS),
        filters: JSON.stringify({ type: ['container'], event: ['create'], container: [id] }),
      },
      signal,
    })
    for await (const { containerId } of eventsOf(doing, guarded(doing, jsonLines(body), signal))) {
      if (containerId === id) return true
    }
    if (signal.aborted) throw new EngineError('deadline', `The engine did not answer in time while ${doing}`)
    return false
  }

  async close(): Promise<void> {
    this.#breaker.close()
    await this.#streams.close()
  }
}

async function* eventsOf(doing: string, messages: AsyncIterable<unknown>): AsyncGenerator<EngineEvent> {
  for await (const message of messages) {
    const { Action, Actor, timeNano } = checked(EventMessage, doing, message)
    yield { containerId: Actor.ID, action: Action, at: new Date(timeNano / 1e6) }
  }
}

/** The newest version that both sides speak. */
function negotiate(newest: string, oldest: string): string {
  const agreed = minor(newest) < minor(API_CEILING) ? newest : API_CEILING
  if (minor(newest) < minor(API_FLOOR) || minor(agreed) < minor(oldest)) {
    throw new EngineError(
      'protocol',
      `The engine speaks API ${oldest} to ${newest}; this service needs one between ${API_FLOOR} and ${API_CEILING}`,
    )
  }
  return agreed
}

/** Of Docker's bridges. An older one keeps the newer option too, and does nothing about it. */
export function strongestIsolation(version: string): NetworkIsolation {
  return Number.parseInt(version, 10) >= 28 ? 'gateway_isolated' : 'inhibit_ipv4'
}

function minor(version: string): number {
  return Number(version.split('.')[1] ?? Number.NaN)
}
