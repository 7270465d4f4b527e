import type { Attachment, Engine } from '../engine/engine.ts'
import { failpoint } from '../failpoints.ts'
import { type ContainerPlan, planTool } from '../policy/container-policy.ts'
import { throughProxy } from '../policy/egress-proxy.ts'
import type { Store } from '../store/store.ts'
import type { ArtifactCollector } from './artifact-collector.ts'
import { bootMoment } from './boot-clock.ts'
import type { ColdStarts } from './cold-starts.ts'
import { startOnce } from './container-start.ts'
import type { DockerManager } from './docker-manager.ts'
import type { ResolvedImage } from './image-manager.ts'
import type { Outcome } from './outcome.ts'
import type { OutputLook } from './output-folder.ts'
import type { StartingTool } from './tool-attempt.ts'
import { type PreparedTool, prepareTool, type ToolDecision, type ToolPreparationDeps } from './tool-preparation.ts'
import { placeInputFiles } from './writable-folders.ts'

export interface ColdStartDeps extends ToolPreparationDeps {
  engine: Engine
  store: Store
  docker: DockerManager
  collector: ArtifactCollector
  coldStarts: ColdStarts
}

/** A run in a container of its own: prepared, made, filled and started. */
export class ColdStart {
  readonly #deps: ColdStartDeps
  readonly #tool: StartingTool
  readonly #decision: ToolDecision
  #tellStarted = () => {}

  constructor(deps: ColdStartDeps, tool: StartingTool, decision: ToolDecision) {
    this.#deps = deps
    this.#tool = tool
    this.#decision = decision
  }

  /** Answers the outcome of one attempt. Throws where it did not come to a process, and where that was lost from sight. */
  async run(): Promise<Outcome> {
    this.#tellStarted = this.#deps.coldStarts.begin()
    try {
      return await this.#start(await this.#prepare())
    } finally {
      this.#tellStarted()
    }
  }

  async #prepare(): Promise<PreparedTool> {
    const { attempt, toolProcess, record, request } = this.#tool
    // Stored before anything is made: what is queued in the store is taken for never begun.
    await record.insist({ status: 'preparing' }, toolProcess.signal)
    this.#deps.store.sync()
    const began = performance.now()
    const prepared = await prepareTool(this.#deps, request, this.#decision, record.entry, toolProcess.signal)
    attempt.volumes = prepared.ownVolumes
    failpoint('tool.prepared')
    record.timed('image_ms', began)
    return prepared
  }

  #plan({ mounts }: PreparedTool): ContainerPlan {
    const { record, request } = this.#tool
    const { profile } = this.#decision
    const plan = planTool(request, record.entry.id, profile, mounts)
    return request.network_mode === 'egress' ? throughProxy(plan, profile.name) : plan
  }

  async #start(prepared: PreparedTool): Promise<Outcome> {
    const { attempt, toolProcess, record, request } = this.#tool
    const { collector, docker, engine, loopback, volumes } = this.#deps
    const { image, folders } = prepared
    const began = performance.now()
    const containerId = await loopback.made(prepared.network, (network) =>
      docker.create({
        owner: attempt.owner,
        containerName: attempt.containerName,
        imageId: image.id,
        plan: this.#plan(prepared),
        network,
        labels: request.labels,
      }),
    )
    record.entry.containerId = containerId
    let attachment: Attachment | undefined
    try {
      const [attached, before] = await Promise.all([
        engine.containers.attach(containerId, { stdin: request.stdin !== undefined, signal: toolProcess.detached }),
        collector.outputBefore(containerId),
      ])
      attachment = attached
      failpoint('tool.attached')
      await placeInputFiles(engine.containers, containerId, folders, toolProcess.signal)
      // An input file in /output changes it before the tool does.
      const reference = folders.files.length === 0 ? before : await collector.outputBefore(containerId)
      record.timed('create_ms', began)
      toolProcess.signal.throwIfAborted()
      failpoint('tool.filled')
      // What it mounts of the host is claimed since it was made: nobody moves it from here on.
      await volumes.requireInPlace(prepared.mounts.filter(({ type }) => type === 'bind'))
      return await this.#startProcess(containerId, attached, image, reference)
    } finally {
      attachment?.close()
    }
  }

  async #startProcess(
    containerId: string,
    attachment: Attachment,
    image: ResolvedImage,
    before: OutputLook,
  ): Promise<Outcome> {
    const { attempt, toolProcess, record, request } = this.#tool
    const began = performance.now()
    attempt.startAsked = true
    const askedAt = new Date()
    const answered = await this.#startContainer(containerId)
    this.#tellStarted()
    record.entry.started = bootMoment()
    failpoint('tool.started')
    // Where the engine was lost it may have kept no time of the start.
    const startedAt = answered ? new Date() : askedAt
    record.timed('start_ms', began)
    if (request.stdin !== undefined) {
      attachment.stdin.on('error', () => {
        // The tool ended, or closed its stdin, before it had read everything.
      })
      attachment.stdin.end(request.stdin)
    }
    const outcome = await toolProcess.follow({ attachment, image, startedAt, before, answered })
    if (outcome === undefined) throw new Error('A container that was never parked ended as one that was told nothing')
    return outcome
  }

  /** False where the engine's answer was missing at first. */
  async #startContainer(containerId: string): Promise<boolean> {
    const { toolProcess, request } = this.#tool
    const { engine } = this.#deps
    if (request.stdin === undefined) return startOnce(engine, containerId, toolProcess.signal)
    // Its stdin would be lost with the connection: it is not looked for again.
    await engine.containers.start(containerId)
    return true
  }
}
