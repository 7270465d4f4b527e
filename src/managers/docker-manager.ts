import type { ContainerState, ContainerSummary, Engine } from '../engine/engine.ts'
import type { NetworkAttachment } from '../engine/spec.ts'
import { AppError, isEngineFault, messageOf } from '../errors.ts'
import { failpoint } from '../failpoints.ts'
import {
  CONTAINER_KINDS,
  decodeLabels,
  encodeAllLabels,
  isReservedLabel,
  type Labels,
  type Ownership,
  ownedBy,
} from '../labels.ts'
import type { ContainerPlan } from '../policy/container-policy.ts'
import { sideBySide } from '../side-by-side.ts'
import { HostMounts } from './host-mounts.ts'
import type { Log } from './log.ts'

/** A container that is to be: what policy decided, and whose it is. */
export interface ContainerIntent {
  owner: Omit<Ownership, 'instance'>
  containerName: string
  imageId: string
  plan: ContainerPlan
  network: NetworkAttachment
  /** The caller's own labels. */
  labels?: Labels
}

export interface OwnedContainer extends ContainerSummary {
  owner: Ownership
  /** Since when it is its owner's, where it ran before. */
  handedOverAt?: Date
}

interface HandOver {
  owner: Ownership
  /** Id in the container's labels. */
  madeAs: string
  at: Date
}

const REMOVE_TRIES = 4
/** How long the engine may take to tell of a removal. */
const TOLD_WITHIN_MS = 60_000
const REMOVE_PAUSE_MS = 250
const INSPECTED_AT_ONCE = 8
/** How long a removal waits for an engine that is away; then it is left to the reconciler. */
const AWAY_MS = 60_000

/** The only maker, finder and remover of our containers. What bears other labels does not exist here. */
export class DockerManager {
  readonly #engine: Engine
  readonly #instance: string
  /** Of the engine's host, which refuses more. */
  readonly #cores: number
  readonly #cgroupParent: string | undefined
  readonly #log: Log
  readonly #recorded: () => Promise<void>
  readonly #removals = new Set<Promise<void>>()
  /** Ids of what this service removes, or has just removed. */
  readonly #removing = new Set<string>()
  /** Containers that were made before it was known for whom, by their ids. */
  readonly #handedOver = new Map<string, HandOver>()
  readonly #onHandOver: (containerId: string) => void
  /** Which of our containers hold what of the host. */
  readonly hostMounts: HostMounts

  constructor(options: {
    engine: Engine
    instance: string
    log: Log
    cores?: number
    cgroupParent?: string | undefined
    hostMounts?: HostMounts
    /** Resolves once what was recorded before is kept, whatever happens: waited for before a container is made or removed. */
    recorded?: () => Promise<void>
    /** Called where a container has become another's, of which the engine knows nothing. */
    onHandOver?: (containerId: string) => void
  }) {
    this.hostMounts = options.hostMounts ?? new HostMounts()
    this.#recorded = options.recorded ?? (async () => {})
    this.#onHandOver = options.onHandOver ?? (() => {})
    this.#cgroupParent = options.cgroupParent
    this.#engine = options.engine
    this.#cores = options.cores ?? Number.POSITIVE_INFINITY
    this.#instance = options.instance
    this.#log = options.log
  }

  /**
   * Creates a container, without starting it, and answers its id. What it mounts of the host is claimed for
   * its owner first: `conflict` where a container of another owner is in the way.
   */
  async create(intent: ContainerIntent): Promise<string> {
    const binds = intent.plan.mounts.filter((mount) => mount.type === 'bind')
    await this.#recorded()
    this.hostMounts.claim(intent.owner.id, binds)
    failpoint('container.create')
    const id = await this.#engine.containers.create({
      ...intent.plan,
      resources: { ...intent.plan.resources, cpus: Math.min(intent.plan.resources.cpus, this.#cores) },
      name: intent.containerName,
      imageId: intent.imageId,
      network: intent.network,
      ...(this.#cgroupParent === undefined ? {} : { cgroupParent: this.#cgroupParent }),
      // Ours last: neither the caller's nor the image's labels can take their place.
      labels: { ...intent.labels, ...encodeAllLabels({ ...intent.owner, instance: this.#instance }) },
    })
    this.hostMounts.made(intent.owner.id, id, binds)
    failpoint('container.created')
    return id
  }

  /** Our containers, running or not. */
  async list({ session }: { session?: string | undefined } = {}): Promise<OwnedContainer[]> {
    if (session !== undefined) return this.#listOf(session)
    const holders = [...this.hostMounts.containers(), ...this.#handedOver.keys()]
    const containers = await this.#engine.containers.list(ownedBy(this.#instance))
    this.#forgetHolders(holders, containers)
    return this.#owned(containers)
  }

  /** Those of a session by their labels, and those that were handed over to it. */
  async #listOf(session: string): Promise<OwnedContainer[]> {
    const isGiven = [...this.#handedOver.values()].some(({ owner }) => owner.session === session)
    const [labelled, pooled] = await Promise.all([
      this.#engine.containers.list(ownedBy(this.#instance, undefined, session)),
      isGiven ? this.#engine.containers.list(ownedBy(this.#instance, 'pool')) : [],
    ])
    return this.#owned([...labelled, ...pooled]).filter(({ owner }) => owner.session === session)
  }

  #owned(containers: readonly ContainerSummary[]): OwnedContainer[] {
    return containers.flatMap((container) => {
      const given = this.#handedOver.get(container.id)
      if (given !== undefined) return [{ ...container, owner: given.owner, handedOverAt: given.at }]
      const owner = decodeLabels(container.labels)
      return owner === undefined || !CONTAINER_KINDS.has(owner.kind) ? [] : [{ ...container, owner }]
    })
  }

  /**
   * From now on a container of the pool is whose `owner` says: an engine cannot change its labels.
   * `madeAs` is the id in them.
   */
  handOver(containerId: string, madeAs: string, owner: Omit<Ownership, 'instance'>, at = new Date()): void {
    this.#handedOver.set(containerId, { owner: { ...owner, instance: this.#instance }, madeAs, at })
    this.#onHandOver(containerId)
  }

  /** True where a container of the pool has become somebody's, by the id in its labels. */
  isHandedOver(madeAs: string): boolean {
    return [...this.#handedOver.values()].some((given) => given.madeAs === madeAs)
  }

  /** At boot, before anything is made: what containers of earlier processes hold of the host, by the engine's word. */
  async takeStock(): Promise<void> {
    const containers = await this.list()
    const states = await sideBySide(containers, INSPECTED_AT_ONCE, ({ id }) => this.#stateOf(id))
    for (const [index, { id, owner }] of containers.entries()) {
      const state = states[index]
      // A run that has ended is never started again.
      if (state === undefined || (owner.kind === 'tool' && state.finishedAt !== undefined)) continue
      const binds = state.mounts
        .filter(({ source, volume }) => volume === undefined && source !== '')
        .map(({ source, target, readOnly = false }) => ({ source, target, readOnly }))
      this.hostMounts.made(owner.id, id, binds)
    }
  }

  /** One that cannot be read keeps the service from nothing but knowing its mounts. */
  async #stateOf(id: string): Promise<ContainerState | undefined> {
    try {
      return await this.#engine.containers.inspect(id)
    } catch (error) {
      if (isEngineFault(error, 'unavailable', 'deadline')) throw error
      this.#log.error(
        { event: 'container.mounts_unknown', container_id: id, error: messageOf(error) },
        'what a container has of the host is not known: others may be given what it could swap',
      )
      return undefined
    }
  }

  /** Containers that somebody else removed hold nothing any more. */
  #forgetHolders(before: readonly string[], present: readonly ContainerSummary[]): void {
    const ids = new Set(present.map(({ id }) => id))
    for (const id of before) {
      if (ids.has(id)) continue
      this.hostMounts.gone(id)
      this.#handedOver.delete(id)
    }
  }

  /** Removes one of our containers with its anonymous volumes; false where it was gone. */
  async remove(containerId: string): Promise<boolean> {
    this.#removing.add(containerId)
    setTimeout(() => this.#removing.delete(containerId), TOLD_WITHIN_MS).unref()
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#recorded()
        failpoint('container.remove')
        const removed = await this.#engine.containers.remove(containerId)
        this.hostMounts.gone(containerId)
        this.#handedOver.delete(containerId)
        failpoint('container.removed')
        return removed
      } catch (error) {
        // A busy file system lets go within moments.
        if (attempt >= REMOVE_TRIES) throw error
        await new Promise((resolve) => setTimeout(resolve, REMOVE_PAUSE_MS * attempt))
      }
    }
  }

  /** Removes a container, and then volumes of its own, off the caller's path; what fails is left to the reconciler. */
  removeLater(containerId: string, volumes: readonly string[] = []): void {
    const removal = this.remove(containerId)
      .catch(async (error: unknown) => {
        if (!isEngineFault(error, 'unavailable', 'deadline')) throw error
        await this.#engine.availability.restored(AbortSignal.timeout(AWAY_MS))
        await this.remove(containerId)
      })
      .then(() => Promise.all(volumes.map((volume) => this.#engine.volumes.remove(volume))))
      .then(
        () => {},
        (error: unknown) => {
          this.#log.warn(
            { event: 'container.remove_failed', container_id: containerId, error: messageOf(error) },
            'a container could not be removed',
          )
        },
      )
      .finally(() => this.#removals.delete(removal))
    this.#removals.add(removal)
  }

  /** True where a removal that the engine tells of is this service's own. */
  isRemoving(containerId: string): boolean {
    return this.#removing.has(containerId)
  }

  /** Resolves when no removal is under way. */
  async settled(): Promise<void> {
    while (this.#removals.size > 0) await Promise.all(this.#removals)
  }
}

/** Refuses labels of the caller's that would look like ours. */
export function requireCallerLabels(labels: Labels): void {
  const reserved = Object.keys(labels).find(isReservedLabel)
  if (reserved === undefined) return
  throw new AppError('policy_denied', `The label "${reserved}" is the service's own`, {
    rule: 'labels',
    hint: 'Choose a name without the prefix "container-orchestrator".',
  })
}
