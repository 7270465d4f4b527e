import { randomUUID } from 'node:crypto'
import type { Engine, NetworkState } from '../engine/engine.ts'
import { AppError, isEngineFault, messageOf } from '../errors.ts'
import { decodeLabels, encodeLabels, ownedBy } from '../labels.ts'
import { InFlight } from './in-flight.ts'
import type { Log } from './log.ts'
import { capacityOf, freeSubnets } from './subnets.ts'

export interface SessionNetwork {
  id: string
  name: string
  sessionId: string
  subnet: string | undefined
  gateway: string | undefined
  createdAt: Date
}

const SUBNET_TRIES = 32
const REMOVE_TRIES = 5
const REMOVE_PAUSE_MS = 100

/** The private network of each session: makes, finds and removes them, and all of them. */
export class NetworkManager {
  readonly #engine: Engine
  readonly #instance: string
  readonly #range: string
  readonly #log: Log
  readonly #creations = new InFlight<SessionNetwork>()
  /** Ranges of creations under way, which the engine does not list yet. */
  readonly #reserved = new Set<string>()
  #nextIndex = 0

  constructor(options: { engine: Engine; instance: string; range: string; log: Log }) {
    this.#engine = options.engine
    this.#instance = options.instance
    this.#range = options.range
    this.#log = options.log
  }

  /** The session's network, made where it is missing; concurrent calls make one. */
  ensure(sessionId: string): Promise<SessionNetwork> {
    return this.#creations.share(sessionId, async () => (await this.get(sessionId)) ?? (await this.#create(sessionId)))
  }

  async get(sessionId: string): Promise<SessionNetwork | undefined> {
    const [network] = await this.#engine.networks.list(ownedBy(this.#instance, 'network', sessionId))
    return network && sessionNetwork(network, sessionId)
  }

  /** Every session network of this instance. */
  async list(): Promise<SessionNetwork[]> {
    const networks = await this.#engine.networks.list(ownedBy(this.#instance, 'network'))
    return networks.flatMap((network) => {
      const sessionId = decodeLabels(network.labels)?.session
      return sessionId === undefined ? [] : [sessionNetwork(network, sessionId)]
    })
  }

  /** Ids of the containers that are attached to a network and run. */
  async containersOf(network: SessionNetwork): Promise<readonly string[]> {
    return (await this.#engine.networks.inspect(network.id))?.containers ?? []
  }

  /** Removes a network, detaching what is still attached; false where it was gone. */
  async remove(network: SessionNetwork): Promise<boolean> {
    for (let attempt = 1; ; attempt++) {
      const state = await this.#engine.networks.inspect(network.id)
      if (state === undefined) return false
      for (const containerId of state.containers) await this.#engine.networks.disconnect(network.id, containerId)
      try {
        const removed = await this.#engine.networks.remove(network.id)
        this.#log.info(
          { event: 'network.removed', network: network.name, session_id: network.sessionId },
          'network removed',
        )
        return removed
      } catch (error) {
        // Endpoints of containers that are being removed vanish a moment after the containers do.
        if (attempt >= REMOVE_TRIES || !isEngineFault(error, 'conflict', 'failed')) throw error
        await new Promise((resolve) => setTimeout(resolve, REMOVE_PAUSE_MS * attempt))
      }
    }
  }

  async #create(sessionId: string): Promise<SessionNetwork> {
    const name = `session_${sessionId}`
    const nonce = randomUUID()
    const labels = encodeLabels({ instance: this.#instance, kind: 'network', id: name, session: sessionId, nonce })
    const existing = (await this.#engine.networks.list({})).flatMap((network) => network.subnets)
    let tries = 0
    for (const { index, cidr } of freeSubnets(this.#range, [...existing, ...this.#reserved], this.#nextIndex)) {
      // Taken by another creation since the generator began.
      if (this.#reserved.has(cidr)) continue
      this.#reserved.add(cidr)
      this.#nextIndex = index + 1
      try {
        const id = await this.#engine.networks.create({ name, subnet: cidr, internal: true, labels })
        this.#log.info(
          { event: 'network.created', network: name, session_id: sessionId, subnet: cidr },
          'network created',
        )
        const state = await this.#engine.networks.inspect(id)
        if (state === undefined) throw new AppError('engine_error', `Network ${name} vanished while it was being made`)
        return sessionNetwork(state, sessionId)
      } catch (error) {
        if (isEngineFault(error, 'subnet_overlap') && ++tries < SUBNET_TRIES) continue
        if (isEngineFault(error, 'conflict')) {
          throw new AppError('conflict', `The engine has a network "${name}" that is not this service's`, {
            cause: error,
            hint: 'Choose another session_id, or remove that network.',
          })
        }
        throw error
      } finally {
        this.#reserved.delete(cidr)
      }
    }
    throw new AppError(
      'quota_exceeded',
      `All ${capacityOf(this.#range)} session networks of ${this.#range} are in use`,
      {
        retryAfterSeconds: 30,
        hint: 'Clean up sessions that have ended; CO_SESSION_SUBNETS sets the range.',
      },
    )
  }

  /** Removes the networks that have no containers; with `force`, also those that have. */
  async removeAll(options: {
    force: boolean
    dryRun: boolean
  }): Promise<{ removed: number; errors: { resource: string; message: string }[] }> {
    const errors: { resource: string; message: string }[] = []
    const outcomes = await Promise.all(
      (await this.list()).map(async (network) => {
        try {
          if (!options.force && (await this.containersOf(network)).length > 0) return false
          return options.dryRun || (await this.remove(network))
        } catch (error) {
          errors.push({ resource: `network ${network.name}`, message: messageOf(error) })
          return false
        }
      }),
    )
    return { removed: outcomes.filter(Boolean).length, errors }
  }
}

function sessionNetwork(state: NetworkState, sessionId: string): SessionNetwork {
  return {
    id: state.id,
    name: state.name,
    sessionId,
    subnet: state.subnets[0],
    gateway: state.gateway,
    createdAt: state.createdAt,
  }
}
