import type { Caller, CallerLimits } from '../domain/caller.ts'
import type { StartWorker } from '../domain/worker-spec.ts'
import type { EngineInfo } from '../engine/engine.ts'
import { profileFor } from '../policy/caller-profile.ts'
import { type CredentialSets, credentialsFor } from '../policy/credentials.ts'
import { requireWithin } from '../policy/limits.ts'
import { type Profiles, requireNetwork, requireOpenFiles, requireRoot } from '../policy/profiles.ts'
import { requireOwnVariables } from '../policy/worker-environment.ts'
import { memoryBytes } from '../policy/worker-policy.ts'
import { requireCallerLabels } from './docker-manager.ts'
import { requireGpu } from './gpu.ts'
import { requireCores, requireMemory } from './host-limits.ts'
import type { SessionGate } from './session-gate.ts'
import type { SessionNames } from './session-names.ts'
import type { Place, SessionQuotas } from './session-quotas.ts'
import type { WorkerDecision } from './worker-blueprint.ts'
import { requireCapacity } from './worker-capacity.ts'
import type { WorkerLife, WorkerLifeDeps } from './worker-life.ts'
import { bearerOf, isFoundByName, megabytes, type WorkerLives } from './worker-lives.ts'
import type { WorkerEntry } from './worker-record.ts'
import { claimWorkspace, requireApart } from './worker-workspace.ts'

export interface WorkerAdmissionOptions extends WorkerLifeDeps {
  engineInfo: EngineInfo
  profiles: Profiles
  credentialSets: CredentialSets
  gate: SessionGate
  quotas: SessionQuotas
  names: SessionNames
}

/** What has to be true before a worker is started, refused before anything is made otherwise: policy, the host's folders, room and names. */
export class WorkerAdmission {
  readonly #options: WorkerAdmissionOptions
  readonly #lives: WorkerLives

  constructor(options: WorkerAdmissionOptions, lives: WorkerLives) {
    this.#options = options
    this.#lives = lives
  }

  /** Everything that can be refused without asking the engine. */
  decide(request: StartWorker, limits?: CallerLimits): WorkerDecision {
    const { credentialSets, engineInfo, environmentPrefixes, images, profiles, volumes } = this.#options
    const profile = profileFor(profiles, 'worker', request.profile, limits)
    requireNetwork(profile, request.network)
    requireRoot(profile, request.readonly_root)
    requireOpenFiles(profile, request.nofile.hard)
    requireCallerLabels(request.labels)
    requireOwnVariables(request.environment, environmentPrefixes)
    images.requireAllowed(request, profile)
    requireCores(engineInfo, request.cpu_limit, 'cpu_limit')
    requireMemory(engineInfo, memoryBytes(request))
    requireWithin(profile, {
      memoryMegabytes: memoryBytes(request) / 1024 ** 2,
      cpus: request.cpu_limit,
      pids: request.pids_limit,
    })
    if (request.gpu !== undefined) requireGpu(engineInfo, profile)
    return {
      profile,
      volumes: volumes.within(profile.hostRoots).decide(request.volumes),
      credentials: credentialsFor(credentialSets, request.credentials, profile.credentials),
    }
  }

  /**
   * Starts a new one, by the id of its record, where policy and the world allow it. What it takes of the
   * host is claimed for it, and released where no worker has come of it.
   */
  async checked<T>(
    request: StartWorker,
    { id, caller }: { id: string; caller: Caller },
    start: () => Promise<T>,
  ): Promise<T> {
    this.#options.gate.admit(request.session_id)
    const decision = this.decide(request, caller.limits)
    const volumes = this.#options.volumes.within(decision.profile.hostRoots)
    const instead = this.#lives.get(request.worker_id)?.entry.id
    try {
      await volumes.claim(id, decision.volumes, { instead })
      await claimWorkspace(id, request.workspace, { ...this.#options, volumes }, { instead })
      await requireApart(request.workspace, decision.volumes, volumes)
      return await start()
    } catch (error) {
      if (this.#lives.ofRecord(id) === undefined) volumes.release(id)
      throw error
    }
  }

  /**
   * Answers a check that there is room for one, as far as operator, session and caller are concerned: to be
   * made at the moment in which it begins to count. `containers` is how many it adds.
   */
  async roomFor(place: Place, limits: CallerLimits): Promise<(request: StartWorker, containers: 0 | 1) => void> {
    const checkQuotas = await this.#options.quotas.checkFor(place, limits)
    return (request, containers) => {
      requireCapacity(request, this.#lives.capacity())
      checkQuotas({ runs: 0, containers, memory_mb: megabytes(request) })
    }
  }

  /** Throws `conflict` where it would be found by a name that leads to something else. */
  requireName(entry: WorkerEntry): void {
    if (isFoundByName(entry)) this.#options.names.requireFree(bearerOf(entry))
  }

  /** Starts one again where there is room for it and its name is free, which it takes from now on. */
  async again<T>(life: WorkerLife, { limits }: Caller, start: () => Promise<T>): Promise<T> {
    const { gate, names } = this.#options
    gate.admit(life.request.session_id)
    const requireRoom = await this.roomFor(life.entry, limits)
    if (!this.#lives.counts(life)) requireRoom(life.request, 0)
    const release = isFoundByName(life.entry) ? names.hold(bearerOf(life.entry)) : () => {}
    const returned = this.#lives.hold(life)
    try {
      return await start()
    } finally {
      returned()
      release()
    }
  }
}
