/** The service on the real engine with a recorder between the two: what callers made it say is seen there. */
import { Client } from '../../fixtures/client.ts'
import { startService, type TestService } from '../../fixtures/service.ts'
import { type EngineRequest, SocketProxy } from '../../support/socket-proxy.ts'
import { type Allowance, forbidden } from './forbidden.ts'

/** Bodies are kept whole: none of a caller's is longer. */
const KEPT_BYTES = 8 * 1024 * 1024

export class Wall {
  readonly service: TestService
  readonly client: Client
  readonly socket: SocketProxy
  readonly #allowance: Allowance

  private constructor(service: TestService, socket: SocketProxy, allowance: Allowance) {
    this.service = service
    this.client = new Client(service.url)
    this.socket = socket
    this.#allowance = allowance
  }

  static async raise(environment: Record<string, string> = {}, allowance: Allowance = {}): Promise<Wall> {
    const socket = await SocketProxy.open(process.env['DOCKER_HOST'])
    socket.keep = KEPT_BYTES
    try {
      return new Wall(
        await startService({ environment: { ...environment, DOCKER_HOST: socket.host } }),
        socket,
        allowance,
      )
    } catch (error) {
      await socket.close()
      throw error
    }
  }

  /** What the service asked of the engine while `work` was done, by anyone. */
  async during(work: () => Promise<unknown>): Promise<readonly EngineRequest[]> {
    const begin = this.socket.requests.length
    await work()
    return this.socket.requests.slice(begin)
  }

  /** What nobody may ever have sent, of all that was. */
  breaches(): string[] {
    return forbidden(this.socket.requests, this.#allowance)
  }

  async fall(): Promise<void> {
    await this.service.destroy()
    await this.socket.close()
  }
}

/** Requests that change something on the engine; to wait for a container's end does not. */
export function changes(requests: readonly EngineRequest[]): string[] {
  return requests
    .filter(({ method, path }) => method !== 'GET' && method !== 'HEAD' && !path.endsWith('/wait'))
    .map(({ method, path }) => `${method} ${path}`)
}

/** The bodies of all requests for a container, as the engine got them. */
export function creations(wall: Wall): { HostConfig: Record<string, unknown> }[] {
  return wall.socket.requests
    .filter(({ method, path }) => method === 'POST' && /\/containers\/create(?:\?|$)/.test(path))
    .map(({ body }) => JSON.parse(body.toString('utf8')) as { HostConfig: Record<string, unknown> })
}
