import { randomUUID } from 'node:crypto'
import type { Engine, NetworkState } from '../engine/engine.ts'
import type { NetworkIsolation } from '../engine/spec.ts'
import { AppError, isEngineFault, messageOf } from '../errors.ts'
import { failpoint } from '../failpoints.ts'
import { decodeLabels, encodeLabels, type Labels, type Ownership, ownedBy } from '../labels.ts'
import { type Datagrams, hostAddressesOn, refuseDatagrams } from './host-bridge.ts'
import { InFlight } from './in-flight.ts'
import type { Log } from './log.ts'
import { capacityOf, freeSubnets } from './subnets.ts'

export interface ManagedNetwork {
  id: string
  name: string
  subnet: string | undefined
  isolation: NetworkIsolation
  createdAt: Date
}

export interface SessionNetwork extends ManagedNetwork {
  sessionId: string
}

/** What a new network is to be. */
interface NetworkIntent {
  name: string
  session: string | undefined
  /** Of its range: 27 for the 29 containers of a session. */
  prefix: number
  /** Its containers do not reach each other. */
  isolated: boolean
}

/** What shuts session networks and the workers' bridge off from the host, as far as this process has seen. */
export interface IsolationReport {
  /** What new networks get. */
  inForce: NetworkIsolation
  /** A network was seen with it. */
  verified: boolean
  datagrams: Datagrams
  /** Networks of ours that are in use with less, made before by another version. */
  weaker: number
}

const SESSION_PREFIX = 27
/** The internal bridge takes 253 workers. */
const INTERNAL_PREFIX = 24
const SUBNET_TRIES = 32
const REMOVE_TRIES = 5
const REMOVE_PAUSE_MS = 100

/** The private network of each session, and the workers' internal bridge: makes, finds and removes them. */
export class NetworkManager {
  readonly #engine: Engine
  readonly #instance: string
  readonly #range: string
  readonly #log: Log
  readonly #creations = new InFlight<SessionNetwork>()
  readonly #internal = new InFlight<ManagedNetwork>()
  /** Ranges of creations under way, which the engine does not list yet. */
  readonly #reserved = new Set<string>()
  /** Names of networks that are in use with less isolation than new ones get. */
  readonly #weaker = new Set<string>()
  readonly #isolation: NetworkIsolation
  #verified = false
  #datagrams: Datagrams = 'unknown'
  #nextIndex = 0

  /** `isolation` is what the engine has, by its version; new networks are looked at to see whether it holds. */
  constructor(options: { engine: Engine; instance: string; range: string; log: Log; isolation: NetworkIsolation }) {
    this.#isolation = options.isolation
    this.#engine = options.engine
    this.#instance = options.instance
    this.#range = options.range
    this.#log = options.log
  }

  /** The session's network, made where it is missing; concurrent calls make one. */
  ensure(sessionId: string): Promise<SessionNetwork> {
    return this.#creations.share(sessionId, async () => {
      const present = await this.#engine.networks.list({})
      const own = present.find(({ labels }) => this.#isOf(sessionId, labels))
      if (own !== undefined) {
        await this.#shutOff(managedNetwork(own))
        return { ...managedNetwork(own), sessionId }
      }
      const intent = { session: sessionId, prefix: SESSION_PREFIX, isolated: false }
      const name = `session_${sessionId}`
      const made = await this.#createAlone({ ...intent, name }, present)
      if (made !== undefined) return { ...made, sessionId }
      // Another installation on this engine has a session of that id.
      const marked = { ...intent, name: `${name}_${this.#instance.slice(0, 8)}` }
      const { network } = await this.#create(marked, await this.#engine.networks.list({}))
      return { ...network, sessionId }
    })
  }

  /**
   * The bridge that workers share by default: without a way out, and without one to each other. Made
   * where it is missing, one for this installation.
   */
  ensureInternal(): Promise<ManagedNetwork> {
    return this.#internal.share('internal', async () => {
      const name = this.#internalName
      const present = await this.#engine.networks.list({})
      const own = present.find((network) => network.name === name && this.#isOf(undefined, network.labels))
      if (own !== undefined) {
        await this.#shutOff(managedNetwork(own))
        return managedNetwork(own)
      }
      const prefix = capacityOf(this.#range, INTERNAL_PREFIX) > 0 ? INTERNAL_PREFIX : SESSION_PREFIX
      return (await this.#create({ name, session: undefined, prefix, isolated: true }, present)).network
    })
  }

  get isolation(): IsolationReport {
    return {
      inForce: this.#isolation,
      verified: this.#verified,
      datagrams: this.#datagrams,
      weaker: this.#weaker.size,
    }
  }

  /**
   * Looks over the networks that are there, and tells what isolates them. One that is less isolated than
   * a new one would be (another version made it) is removed where no container of ours was made for it,
   * and made anew when it is needed; otherwise it stays, and the log and the report say so.
   */
  async inspectIsolation(containers: readonly { owner: Pick<Ownership, 'kind' | 'session'> }[]): Promise<void> {
    for (const state of await this.#engine.networks.list(ownedBy(this.#instance, 'network'))) {
      const network = managedNetwork(state)
      const session = decodeLabels(state.labels)?.session
      // A container that was stopped asks for the very network that it was made for.
      const isInUse = containers.some(({ owner }) =>
        session === undefined ? owner.kind === 'worker' : owner.session === session,
      )
      if (network.isolation === this.#isolation) await this.#shutOff(network)
      else if (isInUse) this.#noteWeaker(network)
      else await this.remove(network)
    }
    this.#log[this.#isolation === 'none' ? 'warn' : 'info'](
      { event: 'networks.isolation', ...this.isolation },
      this.#isolation === 'none'
        ? 'session networks reach the services of this host: the engine has nothing to shut them off'
        : 'session networks are shut off from the host',
    )
  }

  /** Removes the internal bridge where nobody is attached and it is old enough to be removed. */
  async removeIdleInternal(isOld: (networkId: string) => boolean): Promise<boolean> {
    const internal = (await this.all()).find(({ name }) => name === this.#internalName)
    if (internal === undefined || !isOld(internal.id)) return false
    if ((await this.containersOf(internal)).length > 0) return false
    return this.remove(internal)
  }

  /** True where a network is still there. */
  async exists(networkId: string): Promise<boolean> {
    return (await this.#engine.networks.inspect(networkId)) !== undefined
  }

  /** True for the labels of a network that this installation made for a session, or for none. */
  #isOf(sessionId: string | undefined, labels: Labels): boolean {
    const owner = decodeLabels(labels)
    return owner?.instance === this.#instance && owner.kind === 'network' && owner.session === sessionId
  }

  get #internalName(): string {
    return `internal_${this.#instance.slice(0, 8)}`
  }

  async get(sessionId: string): Promise<SessionNetwork | undefined> {
    const [network] = await this.#engine.networks.list(ownedBy(this.#instance, 'network', sessionId))
    return network && { ...managedNetwork(network), sessionId }
  }

  /** Every session network of this instance. */
  async list(): Promise<SessionNetwork[]> {
    const networks = await this.#engine.networks.list(ownedBy(this.#instance, 'network'))
    return networks.flatMap((network) => {
      const sessionId = decodeLabels(network.labels)?.session
      return sessionId === undefined ? [] : [{ ...managedNetwork(network), sessionId }]
    })
  }

  /** Every network of this instance, the internal bridge among them. */
  async all(): Promise<ManagedNetwork[]> {
    return (await this.#engine.networks.list(ownedBy(this.#instance, 'network'))).map(managedNetwork)
  }

  /** Ids of the containers that are attached to a network and run. */
  async containersOf(network: ManagedNetwork): Promise<readonly string[]> {
    return (await this.#engine.networks.inspect(network.id))?.containers ?? []
  }

  /** Removes a network, detaching what is still attached; false where it was gone. */
  async remove(network: ManagedNetwork): Promise<boolean> {
    for (let attempt = 1; ; attempt++) {
      const state = await this.#engine.networks.inspect(network.id)
      if (state === undefined) return false
      for (const containerId of state.containers) await this.#engine.networks.disconnect(network.id, containerId)
      this.#weaker.delete(network.name)
      try {
        failpoint('network.remove')
        const removed = await this.#engine.networks.remove(network.id)
        failpoint('network.removed')
        this.#log.info({ event: 'network.removed', network: network.name }, 'network removed')
        return removed
      } catch (error) {
        // Endpoints of containers that are being removed vanish a moment after the containers do.
        if (attempt >= REMOVE_TRIES || !isEngineFault(error, 'conflict', 'failed')) throw error
        await new Promise((resolve) => setTimeout(resolve, REMOVE_PAUSE_MS * attempt))
      }
    }
  }

  /** Undefined where somebody else's network has the name; two that are made in one moment may both get it. */
  async #createAlone(intent: NetworkIntent, present: readonly NetworkState[]): Promise<ManagedNetwork | undefined> {
    try {
      const { network, namesakes } = await this.#create(intent, present)
      if (namesakes === 0) return network
      await this.remove(network)
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'conflict') throw error
    }
    return undefined
  }

  /** Makes one in a range that none of the present ones has, and tells how many others have its name by then. */
  async #create(
    { name, session, prefix, isolated }: NetworkIntent,
    present: readonly NetworkState[],
  ): Promise<{ network: ManagedNetwork; namesakes: number }> {
    const nonce = randomUUID()
    const labels = encodeLabels({ instance: this.#instance, kind: 'network', id: name, session, nonce })
    const existing = present.flatMap((network) => network.subnets)
    let tries = 0
    const from = prefix === SESSION_PREFIX ? this.#nextIndex : 0
    for (const { index, cidr } of freeSubnets(this.#range, [...existing, ...this.#reserved], from, prefix)) {
      // Taken by another creation since the generator began.
      if (this.#reserved.has(cidr)) continue
      this.#reserved.add(cidr)
      if (prefix === SESSION_PREFIX) this.#nextIndex = index + 1
      try {
        failpoint('network.create')
        const id = await this.#engine.networks.create({
          name,
          subnet: cidr,
          internal: true,
          isolation: this.#isolation,
          isolated,
          labels,
        })
        failpoint('network.created')
        this.#log.info(
          { event: 'network.created', network: name, session_id: session, subnet: cidr },
          'network created',
        )
        const [listed, datagrams] = await Promise.all([
          this.#engine.networks.list({}),
          this.#isolation === 'none' ? undefined : refuseDatagrams(id),
        ])
        const named = listed.filter((network) => network.name === name)
        const state = named.find((network) => network.id === id)
        if (state === undefined) throw new AppError('engine_error', `Network ${name} vanished while it was being made`)
        await this.#shutOff(managedNetwork(state), datagrams)
        return { network: managedNetwork(state), namesakes: named.length - 1 }
      } catch (error) {
        if (isEngineFault(error, 'subnet_overlap') && ++tries < SUBNET_TRIES) continue
        if (isEngineFault(error, 'conflict')) {
          throw new AppError('conflict', `The engine has a network "${name}" that is not this service's`, {
            cause: error,
            hint: session === undefined ? 'Remove that network.' : 'Choose another session_id, or remove that network.',
          })
        }
        throw error
      } finally {
        this.#reserved.delete(cidr)
      }
    }
    throw new AppError(
      'quota_exceeded',
      `All ${capacityOf(this.#range, prefix)} networks of ${this.#range} are in use`,
      {
        retryAfterSeconds: 30,
        hint: 'Clean up sessions that have ended; CO_SESSION_SUBNETS sets the range.',
      },
    )
  }

  /**
   * Sees whether a network is isolated as it should be, and does what the host's side of it needs; `refused`
   * is what came of that, where it was done.
   */
  async #shutOff(network: ManagedNetwork, refused?: Datagrams): Promise<void> {
    const hostAddresses = hostAddressesOn(network.id)
    if (network.isolation !== this.#isolation || (this.#isolation !== 'none' && hostAddresses.length > 0)) {
      this.#noteWeaker(network, hostAddresses)
      return
    }
    this.#verified = this.#isolation !== 'none'
    if (!this.#verified) return
    const datagrams = refused ?? (await refuseDatagrams(network.id))
    if (datagrams === 'taken' && this.#datagrams !== 'taken') {
      this.#log.warn(
        { event: 'networks.datagrams_taken', network: network.name },
        'the host takes datagrams from session networks: set net.ipv4.conf.all.rp_filter to 1 or 2',
      )
    }
    this.#datagrams = datagrams
  }

  #noteWeaker({ name, isolation }: ManagedNetwork, hostAddresses: readonly string[] = []): void {
    if (this.#weaker.has(name)) return
    this.#weaker.add(name)
    this.#log.warn(
      { event: 'network.weaker', network: name, isolation, host_addresses: hostAddresses },
      'a network in use reaches the host: clean its session up, or start its workers anew',
    )
  }

  /** Removes the networks that have no containers; with `force`, also those that have. */
  async removeAll(options: {
    force: boolean
    dryRun: boolean
  }): Promise<{ removed: number; errors: { resource: string; message: string }[] }> {
    const errors: { resource: string; message: string }[] = []
    const outcomes = await Promise.all(
      (await this.all()).map(async (network) => {
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

function managedNetwork(state: NetworkState): ManagedNetwork {
  return {
    id: state.id,
    name: state.name,
    subnet: state.subnets[0],
    isolation: state.isolation,
    createdAt: state.createdAt,
  }
}
