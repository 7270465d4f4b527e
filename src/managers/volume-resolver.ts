import { randomUUID } from 'node:crypto'
import { lstat, realpath } from 'node:fs/promises'
import { dirname, normalize } from 'node:path'
import type { VolumeMount } from '../domain/common.ts'
import type { Engine } from '../engine/engine.ts'
import type { MountSpec } from '../engine/spec.ts'
import { AppError } from '../errors.ts'
import { failpoint } from '../failpoints.ts'
import { decodeLabels, encodeLabels, ownedBy } from '../labels.ts'
import { commonRoots } from '../policy/caller-profile.ts'
import {
  decideVolume,
  isBeneath,
  mountOf,
  sessionVolumeName,
  type VolumeDecision,
  type VolumePolicy,
  workerVolumeName,
} from '../policy/volumes.ts'
import type { HeldMount, HostMounts } from './host-mounts.ts'
import type { HostPaths } from './host-paths.ts'
import { InFlight } from './in-flight.ts'
import type { Toolbox } from './toolbox.ts'

/** Turns the mounts of a request into what the engine mounts, with the checks that need a look at the world. */
export class VolumeResolver {
  readonly #engine: Engine
  readonly #instance: string
  readonly #policy: VolumePolicy
  readonly #hostPaths: HostPaths
  readonly #hostMounts: HostMounts
  readonly #toolbox: Toolbox
  /** Shared with those that `within` makes. */
  readonly #making: InFlight<{ name: string; fresh: boolean }>

  constructor(options: {
    engine: Engine
    instance: string
    policy: VolumePolicy
    hostPaths: HostPaths
    hostMounts: HostMounts
    toolbox: Toolbox
    making?: InFlight<{ name: string; fresh: boolean }>
  }) {
    this.#making = options.making ?? new InFlight()
    this.#engine = options.engine
    this.#instance = options.instance
    this.#policy = options.policy
    this.#hostPaths = options.hostPaths
    this.#hostMounts = options.hostMounts
    this.#toolbox = options.toolbox
  }

  /** The same within fewer host folders: those that lie in `roots` too; all where there are no `roots`. */
  within(roots: readonly string[] | undefined): VolumeResolver {
    if (roots === undefined) return this
    return new VolumeResolver({
      engine: this.#engine,
      instance: this.#instance,
      policy: { ...this.#policy, allowedHostRoots: commonRoots(this.#policy.allowedHostRoots, roots) },
      hostPaths: this.#hostPaths,
      hostMounts: this.#hostMounts,
      toolbox: this.#toolbox,
      making: this.#making,
    })
  }

  /** What each mount is, by policy alone: throws before anything is made. */
  decide(mounts: readonly VolumeMount[]): VolumeDecision[] {
    const decisions = mounts.map((mount) => decideVolume(mount, this.#policy))
    const targets = new Set<string>()
    for (const { target } of decisions) {
      if (targets.has(target)) {
        const message = `two volumes are mounted at ${target}`
        throw new AppError('validation_failed', `volumes: ${message}`, { errors: [{ path: 'volumes', message }] })
      }
      targets.add(target)
    }
    return decisions
  }

  /**
   * Claims the host folders of mounts for an owner, and refuses those that do not exist or lead out of their
   * root: before anything is made. `conflict` where containers of other owners are in the way, but for the
   * one in whose place this one comes (`instead`). Whoever calls releases the owner where it throws.
   */
  async claim(
    owner: string,
    decisions: readonly VolumeDecision[],
    options: { instead?: string | undefined } = {},
  ): Promise<void> {
    const asked = decisions.filter(({ type }) => type === 'host')
    this.holdToLook(
      owner,
      asked.map(({ source }) => source),
      options,
    )
    const real = await Promise.all(
      asked.map(async (decision) => ({ ...decision, source: await this.allowedHostPath(decision.source) })),
    )
    this.hold(owner, real, options)
  }

  /** Claims paths as they are asked for, so that nobody of ours can move what is looked at from then on. */
  holdToLook(owner: string, paths: readonly string[], options: { instead?: string | undefined } = {}): void {
    this.hold(
      owner,
      paths.map((source) => ({ source, target: '/', readOnly: true })),
      options,
    )
  }

  /** Claims mounts of the host, by our paths; what lies in no allowed folder is not claimed, and not mounted. */
  hold(owner: string, mounts: readonly HeldMount[], options: { instead?: string | undefined } = {}): void {
    const allowed = mounts
      .map(({ source, target, readOnly }) => ({ source: normalize(source), target, readOnly }))
      .filter(({ source }) => this.#isAllowed(source))
    this.#hostMounts.claim(
      owner,
      allowed.map((mount) => ({ ...mount, source: this.#hostPaths.toEngine(mount.source) })),
      options,
    )
  }

  /** What an owner claimed is free again, once its containers are gone. */
  release(owner: string): void {
    this.#hostMounts.release(owner)
  }

  /**
   * Refuses (`policy_denied`) mounts of a container whose host folders lead elsewhere than when it was
   * made: an engine follows links anew at each start, and who can write beside a folder can put a link
   * in its place.
   */
  async requireInPlace(mounts: readonly { source?: string }[]): Promise<void> {
    for (const { source = '' } of mounts) {
      const local = this.#hostPaths.toLocal(source)
      if (!this.#policy.allowedHostRoots.some((root) => isBeneath(local, root))) continue
      if ((await realpath(local).catch(() => undefined)) === local) continue
      throw new AppError('policy_denied', `Host path "${local}" leads elsewhere than when it was mounted`, {
        rule: 'host_path',
        hint: 'Look at who can write to the folder that it lies in.',
      })
    }
  }

  /** Makes a session's volumes where they are missing, and looks again where host paths really lead. */
  async resolve(decisions: readonly VolumeDecision[], owner: VolumeOwner): Promise<MountSpec[]> {
    return Promise.all(decisions.map(async (decision) => mountOf(decision, await this.#source(decision, owner))))
  }

  /** A volume of a worker's own, which lasts as long as the worker; told whether it was made now. */
  async workerVolume(
    name: string,
    { worker, session, open }: { worker: string; session: string | undefined; open: boolean },
  ): Promise<{ name: string; fresh: boolean }> {
    const engineName = workerVolumeName(this.#instance, worker, name)
    return this.#ensure(engineName, { id: worker, session, name }, open)
  }

  async removeVolume(name: string): Promise<void> {
    await this.#engine.volumes.remove(name)
  }

  /** The volumes that a worker has of its own, by their engine names. */
  async workerVolumes(worker: string): Promise<string[]> {
    const volumes = await this.#engine.volumes.list(ownedBy(this.#instance, 'volume'))
    return volumes.filter(({ labels }) => decodeLabels(labels)?.id === worker).map(({ name }) => name)
  }

  /** The engine's name for a path of ours. */
  toEngine(path: string): string {
    return this.#hostPaths.toEngine(path)
  }

  /** The engine's name of a caller's volume: the operator's, the session's, or the worker's own. */
  async namedVolume(name: string, owner: VolumeOwner): Promise<string> {
    const [decision] = this.decide([{ source: name, target: '/volume', read_only: false }])
    if (decision === undefined) throw new Error('a volume was decided to nothing')
    return this.#source(decision, owner)
  }

  async #source(decision: VolumeDecision, owner: VolumeOwner): Promise<string> {
    const { session, worker, open } = owner
    if (decision.type === 'shared') return decision.source
    if (decision.type === 'host') return this.#hostPaths.toEngine(await this.allowedHostPath(decision.source))
    if (session !== undefined) {
      const name = sessionVolumeName(this.#instance, session, decision.source)
      return (await this.#ensure(name, { id: name, session, name: decision.source }, open)).name
    }
    if (worker === undefined) throw new Error('a volume has neither a session nor a worker')
    return (await this.workerVolume(decision.source, { worker, session, open })).name
  }

  /** A host path with its symlinks resolved; one that leads out of the allowed folders is denied. */
  async allowedHostPath(source: string): Promise<string> {
    const real = await realpath(source).catch(() => undefined)
    if (real === undefined && (await this.#isMissing(source))) {
      throw new AppError('validation_failed', `Host path "${source}" does not exist`)
    }
    // A symlink may lead out of the root although its own path lies in it.
    if (real !== undefined && this.#isAllowed(real)) return real
    throw new AppError('policy_denied', `Host path "${source}" leads out of the folders that the operator allows`, {
      rule: 'host_path',
    })
  }

  #isAllowed(real: string): boolean {
    return this.#policy.allowedHostRoots.some((root) => isBeneath(real, root))
  }

  /**
   * True where nothing is at a path of an allowed folder. What lies elsewhere, or where a link leads, is not
   * told: an answer that depends on it would say what the host has.
   */
  async #isMissing(source: string): Promise<boolean> {
    const parent = dirname(source)
    if (parent === source) return false
    const real = await realpath(parent).catch(() => undefined)
    if (real === undefined) return this.#isMissing(parent)
    if (!this.#isAllowed(real)) return false
    return (await lstat(source).catch(() => undefined)) === undefined
  }

  /** Shared by all who ask at once: two would be in each other's way. */
  #ensure(
    name: string,
    owner: { id: string; session: string | undefined; name: string },
    open: boolean,
  ): Promise<{ name: string; fresh: boolean }> {
    return this.#making.share(name, () => this.#make(name, owner, open))
  }

  async #make(
    name: string,
    owner: { id: string; session: string | undefined; name: string },
    open: boolean,
  ): Promise<{ name: string; fresh: boolean }> {
    const existing = await this.#engine.volumes.inspect(name)
    if (existing !== undefined) {
      const found = decodeLabels(existing.labels)
      if (found?.instance === this.#instance && found.id === owner.id && found.session === owner.session)
        return { name, fresh: false }
      throw new AppError('conflict', `The engine has a volume "${name}" that is somebody else's`, {
        hint: 'Choose another name for the volume.',
      })
    }
    const nonce = randomUUID()
    if (open) await this.#toolbox.openVolume(name, { ...owner, nonce })
    else
      await this.#engine.volumes.create(
        name,
        encodeLabels({ instance: this.#instance, kind: 'volume', ...owner, nonce }),
      )
    failpoint('volume.created')
    return { name, fresh: true }
  }
}

/** Whose the named volumes of a container are: its session's, or the worker's own where it has none. */
export interface VolumeOwner {
  session: string | undefined
  worker?: string
  /** Made so that any user can write to them: for processes that are not root. */
  open: boolean
}
