import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { AppError } from '../errors.ts'
import type { Door, DoorTarget } from './door.ts'

/** Reachable from this host alone: no container can connect to it. */
const LISTEN_ADDRESS = '127.0.0.1'

/**
 * Published ports of relics and workers, by the id of their record. An engine publishes nothing of an
 * internal network, and a container on any other would have a way out, so the service listens itself
 * and passes connections through the door.
 */
export class PortForwarder {
  readonly #door: Door
  readonly #servers = new Map<string, Server[]>()
  readonly #connections = new Map<string, Set<Duplex>>()

  constructor(door: Door) {
    this.#door = door
  }

  /**
   * Listens for one container: container port to host port, 0 for any free one. Answers where each is; a
   * port in use is a `conflict`, and then none is listened on.
   */
  async open(
    recordId: string,
    ports: Readonly<Record<string, number>>,
    target: Omit<DoorTarget, 'port'>,
  ): Promise<Record<string, number>> {
    await this.close(recordId)
    const opened: Record<string, number> = {}
    try {
      for (const [containerPort, hostPort] of Object.entries(ports)) {
        opened[containerPort] = await this.#listen(recordId, hostPort, { ...target, port: Number(containerPort) })
      }
      return opened
    } catch (error) {
      await this.close(recordId)
      throw error
    }
  }

  /** Stops listening for one and ends its connections. */
  async close(recordId: string): Promise<void> {
    const servers = this.#servers.get(recordId) ?? []
    this.#servers.delete(recordId)
    for (const socket of this.#connections.get(recordId) ?? []) socket.destroy()
    this.#connections.delete(recordId)
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  }

  /** Counts a connection into its container, and ends it with those to its published ports. */
  track(recordId: string, connection: Duplex): void {
    const connections = this.#connections.get(recordId) ?? new Set()
    this.#connections.set(recordId, connections.add(connection))
    connection.once('close', () => connections.delete(connection))
  }

  /** True while somebody is connected to one of its ports. */
  isUsed(recordId: string): boolean {
    return (this.#connections.get(recordId)?.size ?? 0) > 0
  }

  async closeAll(): Promise<void> {
    const recordIds = new Set([...this.#servers.keys(), ...this.#connections.keys()])
    await Promise.all([...recordIds].map((recordId) => this.close(recordId)))
  }

  #listen(recordId: string, hostPort: number, target: DoorTarget): Promise<number> {
    const server = createServer({ allowHalfOpen: true }, (socket) => void this.#pass(recordId, socket, target))
    this.#servers.set(recordId, [...(this.#servers.get(recordId) ?? []), server])
    return new Promise((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        const problem = error.code === 'EADDRINUSE' ? 'is in use' : `cannot be listened on: ${error.message}`
        reject(
          new AppError('conflict', `Host port ${hostPort} ${problem}`, {
            cause: error,
            hint: 'Choose another host port, or 0 for any free one.',
          }),
        )
      })
      server.listen(hostPort, LISTEN_ADDRESS, () => resolve((server.address() as AddressInfo).port))
    })
  }

  async #pass(recordId: string, socket: Socket, target: DoorTarget): Promise<void> {
    this.track(recordId, socket)
    const gone = new AbortController()
    socket.once('close', () => gone.abort())
    try {
      const far = await this.#door.dial(target, gone.signal)
      await Promise.all([pipeline(socket, far), pipeline(far, socket)])
    } catch {
      // Either side went away: the other is told by the end of its connection.
    } finally {
      socket.destroy()
    }
  }
}
