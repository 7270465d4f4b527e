import { randomUUID } from 'node:crypto'
import { ANYONE, type Caller, type CallerLimits, type Making } from '../domain/caller.ts'
import { type Page, timestamp } from '../domain/common.ts'
import type { Relic, RelicHealth, StartRelic } from '../domain/relic.ts'
import type { ContainerState, EngineInfo } from '../engine/engine.ts'
import { AppError, unknownResource } from '../errors.ts'
import { profileFor } from '../policy/caller-profile.ts'
import { type Profiles, requireNetwork } from '../policy/profiles.ts'
import type { ListFilter } from '../store/records.ts'
import type { ColdStarts } from './cold-starts.ts'
import { requireCallerLabels } from './docker-manager.ts'
import { requireGpu } from './gpu.ts'
import { requireResources } from './host-limits.ts'
import { containerName, newId } from './names.ts'
import { startedOrThrow } from './outcome.ts'
import type { RelicDecision } from './relic-blueprint.ts'
import { RelicLife, type RelicLifeDeps } from './relic-life.ts'
import type { RelicPlace } from './relic-proxy.ts'
import { DELETED, type RelicEntry } from './relic-record.ts'
import type { SessionGate } from './session-gate.ts'
import type { NameBearer, SessionNames } from './session-names.ts'
import type { Place, SessionQuotas, SessionUse } from './session-quotas.ts'

export interface RelicManagerOptions extends RelicLifeDeps {
  engineInfo: EngineInfo
  profiles: Profiles
  gate: SessionGate
  quotas: SessionQuotas
  names: SessionNames
  coldStarts: ColdStarts
}

const RESTART_GRACE_SECONDS = 10
const DELETE_GRACE_SECONDS = 10

/** Relics: starts, tells, stops, restarts and removes them. */
export class RelicManager {
  readonly #options: RelicManagerOptions
  /** Every relic that has a container, or is getting one. */
  readonly #lives = new Map<string, RelicLife>()

  constructor(options: RelicManagerOptions) {
    this.#options = options
  }

  /** Starts a relic and answers when it is healthy; a start that fails leaves no container. */
  async start(request: StartRelic, { id = newId('relic'), caller = ANYONE }: Making = {}): Promise<Relic> {
    const { gate, volumes } = this.#options
    gate.admit(request.session_id)
    const decision = this.#decide(request, caller.limits)
    try {
      await volumes.within(decision.profile.hostRoots).claim(id, decision.volumes)
      return await this.#start(request, { id, caller }, decision)
    } catch (error) {
      if (!this.#lives.has(id)) volumes.release(id)
      throw error
    }
  }

  async #start(request: StartRelic, { id, caller }: Required<Making>, decision: RelicDecision): Promise<Relic> {
    const { store } = this.#options
    const entry: RelicEntry = {
      id,
      sessionId: request.session_id,
      owner: await store.sessions.ownerFor(request.session_id, caller),
      name: request.relic_name,
      status: 'preparing',
      live: true,
      containerId: null,
      nonce: randomUUID(),
      request,
      view: preparingRelic(id, request),
    }
    const checkQuotas = await this.#options.quotas.checkFor(entry, caller.limits)
    this.#options.names.requireFree(bearerOf(entry))
    checkQuotas({ runs: 0, containers: 1, memory_mb: request.resource_limits.memory_mb })
    const life = this.#keep(entry, request, decision)
    try {
      await store.sessions.touch(request.session_id, caller)
      await store.relics.insert(entry)
      return await this.#options.coldStarts.during(() => life.start())
    } finally {
      if (!entry.live) this.#lives.delete(id)
    }
  }

  /** A relic that was started before, or why it did not start; undefined where none was. */
  async started(id: string): Promise<Relic | undefined> {
    const entry = this.#lives.get(id)?.entry ?? (await this.#options.store.relics.get(id))
    return entry && startedOrThrow(entry.view, entry.view.healthy_at !== null, `/containers/relic/${id}`)
  }

  async get(id: string): Promise<Relic> {
    return (await this.#entry(id)).view
  }

  /** Newest first. */
  list(filter: ListFilter): Promise<Page<Relic>> {
    return this.#options.store.relics.list({ ...filter, exceptStatus: DELETED })
  }

  async stop(id: string, graceSeconds: number): Promise<Relic> {
    const entry = await this.#entry(id)
    return this.#lives.get(id)?.stop(graceSeconds) ?? entry.view
  }

  /** Starts the same container again, stopping it before where it runs. */
  async restart(id: string, { limits }: Pick<Caller, 'limits'> = ANYONE): Promise<Relic> {
    const entry = await this.#entry(id)
    this.#options.gate.admit(entry.sessionId)
    const life = this.#lives.get(id)
    if (life === undefined) {
      throw new AppError('conflict', `Relic "${id}" has no container that could be started again`, {
        hint: 'Start a new relic.',
      })
    }
    const checkQuotas = await this.#options.quotas.checkFor(entry, limits)
    if (!runs(entry) && entry.request !== null)
      checkQuotas({ runs: 0, containers: 0, memory_mb: entry.request.resource_limits.memory_mb })
    const release = this.#options.names.hold(bearerOf(entry))
    try {
      return await this.#options.coldStarts.during(() => life.restart(RESTART_GRACE_SECONDS))
    } finally {
      release()
    }
  }

  /** Removes a relic; one that was removed before stays removed. */
  async remove(id: string, graceSeconds = DELETE_GRACE_SECONDS): Promise<void> {
    const stored = await this.#options.store.relics.get(id)
    if (stored === undefined) throw unknownResource('relic', id)
    const life = this.#lives.get(id)
    if (life !== undefined) {
      await life.remove(graceSeconds)
      this.#lives.delete(id)
    } else if (stored.status !== DELETED) {
      await this.#options.store.relics.update({ ...stored, status: DELETED, live: false, request: null })
      await this.#options.store.spools.remove(id)
    }
  }

  async health(id: string): Promise<RelicHealth> {
    const { view } = await this.#entry(id)
    return (
      this.#lives.get(id)?.health() ?? {
        relic_id: id,
        status: view.status,
        healthy: view.status === 'healthy',
        probes: [],
      }
    )
  }

  /** Where a relic takes calls; a `conflict` where it does not run. Counts as use of its session. */
  async visit(id: string): Promise<RelicPlace> {
    const { sessionId, name, view } = await this.#entry(id)
    const target = this.#lives.get(id)?.door
    const isUp = view.status === 'healthy' || view.status === 'unhealthy'
    // A relic whose port is not known has no URL.
    if (!isUp || target === undefined || view.internal_url === null) {
      const why = isUp ? 'has no port that is known' : `is ${view.status}, and takes no calls`
      throw new AppError('conflict', `Relic "${id}" ${why}`, {
        hint: 'Calls are passed on to relics that are healthy or unhealthy; start it again, or a new one.',
      })
    }
    await this.#options.store.sessions.noteActivity(sessionId)
    return { target, host: `${name}:${target.port}` }
  }

  /** Relics of a session that have a container, or are getting one. */
  liveIn(sessionId: string): string[] {
    return [...this.#lives.values()].filter(({ entry }) => entry.sessionId === sessionId).map(({ entry }) => entry.id)
  }

  /** What relics have of the quotas of their sessions and owners. */
  useWhere(matches: (place: Place) => boolean): SessionUse {
    const entries = [...this.#lives.values()].map(({ entry }) => entry).filter(matches)
    const memory = entries.filter(runs).map(({ request }) => request?.resource_limits.memory_mb ?? 0)
    return { runs: 0, containers: entries.length, memory_mb: memory.reduce((sum, part) => sum + part, 0) }
  }

  /** Relics of a session that can be found by name, or are about to. */
  namesIn(sessionId: string): NameBearer[] {
    const entries = [...this.#lives.values()].map(({ entry }) => entry)
    return entries.filter((entry) => entry.sessionId === sessionId && runs(entry)).map(bearerOf)
  }

  /** True while somebody is connected to a relic of a session, by a published port or by the proxy. */
  isUsedIn(sessionId: string): boolean {
    return this.liveIn(sessionId).some((id) => this.#options.forwarder.isUsed(id))
  }

  isLive(id: string): boolean {
    return this.#lives.has(id)
  }

  get count(): number {
    return this.#lives.size
  }

  /** Takes over the container of a relic that an earlier process started. */
  async adopt(entry: RelicEntry, state: ContainerState): Promise<void> {
    const { request } = entry
    if (request === null) throw new Error(`Relic ${entry.id} was stored without its request`)
    try {
      await this.#keep(entry, request).adopt(state)
    } catch (error) {
      // Nobody would look after it: the reconciler takes it over another time.
      this.#lives.delete(entry.id)
      throw error
    }
  }

  /** Leaves every relic running for the next start of the service. */
  detach(): void {
    for (const life of this.#lives.values()) life.detach()
  }

  #keep(entry: RelicEntry, request: StartRelic, decision?: RelicDecision): RelicLife {
    const life = new RelicLife(this.#options, entry, request, decision)
    this.#lives.set(entry.id, life)
    return life
  }

  async #entry(id: string): Promise<RelicEntry> {
    const entry = this.#lives.get(id)?.entry ?? (await this.#options.store.relics.get(id))
    if (entry === undefined || entry.status === DELETED) throw unknownResource('relic', id)
    return entry
  }

  #decide(request: StartRelic, limits?: CallerLimits): RelicDecision {
    const { images, profiles, volumes, engineInfo } = this.#options
    const profile = profileFor(profiles, 'relic', request.profile, limits)
    requireNetwork(profile, profile.egress === undefined ? 'session' : 'egress')
    requireCallerLabels(request.labels)
    images.requireAllowed(request, profile)
    requireResources(engineInfo, profile, request.resource_limits)
    if (request.gpu !== undefined) requireGpu(engineInfo, profile)
    return { profile, volumes: volumes.within(profile.hostRoots).decide(request.volumes) }
  }
}

/** True for one that runs, or is about to. */
function runs({ view }: RelicEntry): boolean {
  return view.status !== 'stopped' && view.status !== 'failed'
}

function bearerOf({ id, sessionId, name, containerId, view }: RelicEntry): NameBearer {
  const { container_name: containerName } = view
  return { sessionId, name, kind: 'relic', path: `/containers/relic/${id}`, containerName, containerId }
}

/** A relic before anything is made. */
export function preparingRelic(id: string, request: StartRelic): Relic {
  return {
    relic_id: id,
    relic_name: request.relic_name,
    session_id: request.session_id,
    status: 'preparing',
    failure: null,
    internal_url: null,
    network: null,
    container_id: null,
    container_name: containerName('relic', request.relic_name, request.session_id, id),
    image: request.image ?? null,
    image_id: null,
    port: request.port,
    ports: {},
    restarts: 0,
    created_at: timestamp(),
    started_at: null,
    healthy_at: null,
    stopped_at: null,
    labels: request.labels,
  }
}
