import { randomUUID } from 'node:crypto'
import { realpath } from 'node:fs/promises'
import type { VolumeMount } from '../domain/common.ts'
import type { Engine } from '../engine/engine.ts'
import type { MountSpec } from '../engine/spec.ts'
import { AppError } from '../errors.ts'
import { decodeLabels, encodeLabels } from '../labels.ts'
import {
  decideVolume,
  isBeneath,
  mountOf,
  sessionVolumeName,
  type VolumeDecision,
  type VolumePolicy,
} from '../policy/volumes.ts'

/** Turns the mounts of a request into what the engine mounts, with the checks that need a look at the world. */
export class VolumeResolver {
  readonly #engine: Engine
  readonly #instance: string
  readonly #policy: VolumePolicy

  constructor(options: { engine: Engine; instance: string; policy: VolumePolicy }) {
    this.#engine = options.engine
    this.#instance = options.instance
    this.#policy = options.policy
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

  /** Refuses host paths that do not exist or lead out of their root: before anything is made. */
  async check(decisions: readonly VolumeDecision[]): Promise<void> {
    for (const decision of decisions) if (decision.type === 'host') await this.#hostPath(decision.source)
  }

  /** Makes a session's volumes where they are missing, and looks again where host paths really lead. */
  async resolve(decisions: readonly VolumeDecision[], sessionId: string): Promise<MountSpec[]> {
    return Promise.all(decisions.map(async (decision) => mountOf(decision, await this.#source(decision, sessionId))))
  }

  async #source(decision: VolumeDecision, sessionId: string): Promise<string> {
    if (decision.type === 'shared') return decision.source
    if (decision.type === 'session') return this.#sessionVolume(decision.source, sessionId)
    return this.#hostPath(decision.source)
  }

  async #hostPath(source: string): Promise<string> {
    let real: string
    try {
      real = await realpath(source)
    } catch (error) {
      throw new AppError('validation_failed', `Host path "${source}" does not exist`, { cause: error })
    }
    // A symlink may lead out of the root although its own path lies in it.
    if (this.#policy.allowedHostRoots.some((root) => isBeneath(real, root))) return real
    throw new AppError('policy_denied', `Host path "${source}" leads out of the folders that the operator allows`)
  }

  async #sessionVolume(source: string, sessionId: string): Promise<string> {
    const name = sessionVolumeName(sessionId, source)
    const existing = await this.#engine.volumes.inspect(name)
    if (existing !== undefined) {
      const owner = decodeLabels(existing.labels)
      if (owner?.instance === this.#instance && owner.session === sessionId) return name
      throw new AppError('conflict', `The engine has a volume "${name}" that is not this session's`, {
        hint: 'Choose another name for the volume.',
      })
    }
    const nonce = randomUUID()
    await this.#engine.volumes.create(
      name,
      encodeLabels({ instance: this.#instance, kind: 'volume', id: name, session: sessionId, name: source, nonce }),
    )
    return name
  }
}
