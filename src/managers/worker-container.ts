/** The container that is a worker's: made by its request, put in the place of another, put back, removed. */
import type { Worker } from '../domain/worker.ts'
import type { ContainerState, Engine } from '../engine/engine.ts'
import {
  type BlueprintDeps,
  type MadeContainer,
  newNonce,
  WorkerBlueprint,
  type WorkerDecision,
} from './worker-blueprint.ts'
import type { WorkerRecord } from './worker-record.ts'

export interface WorkerContainerDeps extends BlueprintDeps {
  engine: Engine
}

/** What the record says of a container. */
type Placed = Pick<Worker, 'container_id' | 'container_name' | 'image' | 'image_id' | 'user' | 'home' | 'network'>

export class WorkerContainer {
  readonly #deps: WorkerContainerDeps
  readonly #record: WorkerRecord
  readonly #decide: () => WorkerDecision

  /** `decide` applies policy, each time that a container is made or its secrets are read. */
  constructor(deps: WorkerContainerDeps, record: WorkerRecord, decide: () => WorkerDecision) {
    this.#deps = deps
    this.#record = record
    this.#decide = decide
  }

  blueprint(): WorkerBlueprint {
    return new WorkerBlueprint(this.#deps, this.#record.request, this.#decide())
  }

  /** Makes the container that is the worker's from now on. */
  async create(signal: AbortSignal): Promise<void> {
    await this.take(await this.make(signal))
  }

  /** Makes a container; its mark is in the store before it is on the engine. */
  async make(signal: AbortSignal): Promise<MadeContainer> {
    const { entry } = this.#record
    entry.nonce = newNonce()
    await this.#record.save()
    return this.blueprint().create({ recordId: entry.id, owner: entry.owner, nonce: entry.nonce }, signal)
  }

  /** A container that was made is the worker's from now on. */
  async take(made: MadeContainer): Promise<void> {
    await this.putBack({
      container_id: made.id,
      container_name: made.name,
      image: made.image.reference,
      image_id: made.image.id,
      user: made.user,
      home: made.home,
      network: made.network,
    })
  }

  /** What is in its place, to be put back where a successor fails. */
  get current(): Placed {
    const { containerId: container_id, view } = this.#record.entry
    const { container_name, image, image_id, user, home, network } = view
    return { container_id, container_name, image, image_id, user, home, network }
  }

  async putBack(placed: Placed): Promise<void> {
    const { entry } = this.#record
    entry.containerId = placed.container_id
    Object.assign(entry.view, placed)
    await this.#record.save()
  }

  /** As the engine has it; undefined where there is none. */
  async inspect(): Promise<ContainerState | undefined> {
    const { containerId } = this.#record.entry
    return containerId === null ? undefined : this.#deps.engine.containers.inspect(containerId)
  }

  /** Without a container, or the network of it, a new one takes its place. */
  async ensure(present: ContainerState | undefined, signal: AbortSignal): Promise<void> {
    if (present !== undefined && (await this.#networkIsThere())) return
    if (present !== undefined) await this.#deps.docker.remove(present.id)
    await this.create(signal)
  }

  async #networkIsThere(): Promise<boolean> {
    const { id } = this.#record.entry.view.network
    return id === null || this.#deps.networks.exists(id)
  }

  async remove(): Promise<void> {
    const { containerId } = this.#record.entry
    if (containerId !== null) await this.#deps.docker.remove(containerId)
  }

  /** Removes what the worker has of its own beside it, but for volumes of these names. */
  async removeVolumes(except: ReadonlySet<string> = new Set()): Promise<void> {
    const { engine, volumes } = this.#deps
    for (const name of await volumes.workerVolumes(this.#record.entry.name))
      if (!except.has(name)) await engine.volumes.remove(name)
  }

  /** The record knows of none any more, and makes none. */
  forget(): void {
    const { entry } = this.#record
    this.#deps.volumes.release(entry.id)
    entry.containerId = null
    entry.view.container_id = null
  }
}
