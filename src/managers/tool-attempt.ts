import { randomUUID } from 'node:crypto'
import type { ExecuteTool } from '../domain/tool.ts'
import type { Ownership } from '../labels.ts'
import type { DockerManager } from './docker-manager.ts'
import { containerName } from './names.ts'
import type { ToolProcess } from './tool-process.ts'
import type { ToolEntry, ToolRecord } from './tool-record.ts'

/** A run that is being started, as those see it that start it. */
export interface StartingTool {
  readonly request: ExecuteTool
  readonly record: ToolRecord
  readonly attempt: ToolAttempt
  readonly toolProcess: ToolProcess
}

/** The attempt that a run is at: what is made for it bears the attempt's nonce, and goes where it is given up. */
export class ToolAttempt {
  /** The engine was asked to start its process: it must not be asked again. */
  startAsked = false
  /** Volumes of its own, beside its container's anonymous ones. */
  volumes: readonly string[] = []
  readonly #docker: DockerManager
  readonly #entry: ToolEntry
  #isNameTaken = false

  constructor(docker: DockerManager, entry: ToolEntry) {
    this.#docker = docker
    this.#entry = entry
  }

  /** Whose its container is. */
  get owner(): Omit<Ownership, 'instance'> {
    const { id, sessionId, owner, name, nonce } = this.#entry
    return { kind: 'tool', id, session: sessionId, owner: owner ?? undefined, name, nonce }
  }

  get containerName(): string {
    const { id, name, nonce, sessionId } = this.#entry
    return containerName('tool', name, sessionId, this.#isNameTaken ? nonce : id)
  }

  /** Removes its container and volumes, off the caller's path. */
  remove(): void {
    const { containerId } = this.#entry
    if (containerId !== null) this.#docker.removeLater(containerId, this.volumes)
  }

  /**
   * Nothing of the run was begun: what was made goes, and the run is as before, under a fresh nonce.
   * `isNamed` where the engine may have a container under the run's name after all.
   */
  giveUp({ isNamed }: { isNamed: boolean }): void {
    this.remove()
    this.volumes = []
    this.#isNameTaken ||= isNamed
    Object.assign(this.#entry, renewed(this.#entry))
    Object.assign(this.#entry.view, { warm: false, container_id: null, started_at: null })
  }
}

/** A fresh nonce for one more attempt at a run that never started. */
export function renewed(entry: ToolEntry): ToolEntry {
  return { ...entry, nonce: randomUUID(), containerId: null, started: undefined }
}
