/** The engine's own API without a library: the floor for whatever drives an engine, and the bench's broom. */

import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { Agent, request } from 'undici'
import { engineAddress } from '../scripts/engine-client.ts'
import { parseEndpoint } from '../src/engine/docker/endpoint.ts'

export const TOOLBOX = 'container-orchestrator/toolbox:1'
export const HTTPD = 'container-orchestrator-test/httpd:1'

/** What every run of the bench says. */
export const GREETING = ['echo', 'hello']

const POLL_MS = 5
const GONE_WITHIN_MS = 30_000

interface Labelled {
  Id: string
}

export class BareEngine implements AsyncDisposable {
  readonly #agent: Agent
  readonly #origin: string

  constructor() {
    const address = engineAddress()
    const endpoint = parseEndpoint(address)
    if ('tls' in endpoint && endpoint.tls !== undefined) throw new Error('the bench does not speak TLS to an engine')
    const socketPath = 'socketPath' in endpoint ? endpoint.socketPath : undefined
    this.#agent = new Agent({ bodyTimeout: 0, headersTimeout: 0, ...(socketPath && { connect: { socketPath } }) })
    this.#origin = 'host' in endpoint ? `http://${endpoint.host}:${endpoint.port}` : 'http://engine'
  }

  /** The body of the answer; throws where the engine refuses. */
  async call(method: 'GET' | 'POST' | 'DELETE', path: string, body?: object): Promise<string> {
    const answer = await request(`${this.#origin}${path}`, {
      method,
      dispatcher: this.#agent,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    })
    const answered = await text(answer.body)
    if (answer.statusCode >= 300 && answer.statusCode !== 304)
      throw new Error(`${method} ${path}: ${answer.statusCode} ${answered}`)
    return answered
  }

  async json<T>(method: 'GET' | 'POST', path: string, body?: object): Promise<T> {
    return JSON.parse(await this.call(method, path, body)) as T
  }

  /** Create, start, wait, logs, remove. */
  async run(labels: Record<string, string>): Promise<void> {
    const id = await this.create({ Image: TOOLBOX, Cmd: GREETING, Labels: labels, HostConfig: { NetworkMode: 'none' } })
    await this.call('POST', `/containers/${id}/start`)
    await this.call('POST', `/containers/${id}/wait`)
    const logs = await this.call('GET', `/containers/${id}/logs?stdout=1&stderr=1`)
    if (!logs.includes('hello')) throw new Error('the container wrote nothing')
    await this.call('DELETE', `/containers/${id}`)
  }

  /** Makes a container, and answers its id. */
  async create(options: object): Promise<string> {
    return (await this.json<{ Id: string }>('POST', '/containers/create', options)).Id
  }

  /** Resolves when there is no such container any more. */
  async gone(containerId: string): Promise<void> {
    for (const began = performance.now(); performance.now() - began < GONE_WITHIN_MS; await sleep(POLL_MS)) {
      const missing = await this.call('GET', `/containers/${containerId}/json`).then(
        () => false,
        (error: Error) => error.message.includes(': 404 '),
      )
      if (missing) return
    }
    throw new Error(`container ${containerId} was not removed`)
  }

  /** Removes containers, networks and volumes with a label (`name` or `name=value`). */
  async sweep(label: string): Promise<void> {
    const filters = encodeURIComponent(JSON.stringify({ label: [label] }))
    const containers = await this.json<Labelled[]>('GET', `/containers/json?all=1&filters=${filters}`)
    await this.#remove(containers.map(({ Id }) => `/containers/${Id}?force=1&v=1`))
    const networks = await this.json<Labelled[]>('GET', `/networks?filters=${filters}`)
    await this.#remove(networks.map(({ Id }) => `/networks/${Id}`))
    const { Volumes } = await this.json<{ Volumes: { Name: string }[] | null }>('GET', `/volumes?filters=${filters}`)
    await this.#remove((Volumes ?? []).map(({ Name }) => `/volumes/${Name}`))
  }

  /** Removes networks whose name begins so. */
  async sweepNetworks(prefix: string): Promise<void> {
    const filters = encodeURIComponent(JSON.stringify({ name: [`^${prefix}`] }))
    const networks = await this.json<Labelled[]>('GET', `/networks?filters=${filters}`)
    await this.#remove(networks.map(({ Id }) => `/networks/${Id}`))
  }

  /** What is gone, or goes already, is removed. */
  async #remove(paths: readonly string[]): Promise<void> {
    await Promise.all(
      paths.map((path) =>
        this.call('DELETE', path).catch((error: Error) => {
          if (!/: (404|409) /.test(error.message)) process.stderr.write(`bench: not removed: ${error.message}\n`)
        }),
      ),
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.close()
  }
}
