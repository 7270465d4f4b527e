import { isEngineFault, messageOf } from '../errors.ts'
import { failpoint } from '../failpoints.ts'
import type { Profile } from '../policy/profiles.ts'
import { bootMoment } from './boot-clock.ts'
import type { DockerManager } from './docker-manager.ts'
import type { ResolvedImage } from './image-manager.ts'
import type { Outcome } from './outcome.ts'
import type { ParkedContainer } from './parked-container.ts'
import type { ParkingPlan } from './parking-plan.ts'
import { fitOut, handOffOf, type PoolClientDeps, placeFor, renameSoon } from './pool-client.ts'
import type { StartingTool } from './tool-attempt.ts'

export interface WarmStartDeps extends PoolClientDeps {
  docker: DockerManager
}

/** A run in a container that waits for one: it is taken, fitted out, and told what to become. */
export class WarmStart {
  readonly #deps: WarmStartDeps
  readonly #tool: StartingTool
  readonly #profile: Profile
  /** What it asked the pool for, found or not. */
  #asked: ParkingPlan | undefined
  /** A parked container was told to become the tool. */
  #wasHandedOver = false

  constructor(deps: WarmStartDeps, tool: StartingTool, profile: Profile) {
    this.#deps = deps
    this.#tool = tool
    this.#profile = profile
  }

  /**
   * Hands the run over and answers its outcome; undefined where no container waits that fits, or where it
   * ended before it had all of the hand-off, so that the tool has not run.
   */
  async run(): Promise<Outcome | undefined> {
    const { attempt, toolProcess, record, request } = this.#tool
    const { log, pool } = this.#deps
    const began = performance.now()
    const place = await placeFor(this.#deps, request, this.#profile, record.entry)
    this.#asked = place?.plan
    const container = place && pool.take(place.plan)
    if (place === undefined || container === undefined) return undefined
    try {
      record.timed('image_ms', began)
      return await this.#handOver(container, place.image)
    } catch (error) {
      // Whoever made it wait, or whatever was to be told to it, the run has not begun.
      if (attempt.startAsked || toolProcess.endReason !== undefined || isEngineFault(error, 'unavailable', 'deadline'))
        throw error
      log.warn(
        { event: 'tool.not_handed_over', execution_id: record.entry.id, error: messageOf(error) },
        'a parked container did not take a run over, which is started in one of its own',
      )
      return undefined
    } finally {
      if (!attempt.startAsked) attempt.giveUp({ isNamed: this.#wasHandedOver })
    }
  }

  /** Tells the pool that the run is over, however it was started. */
  over(): void {
    if (this.#asked !== undefined) this.#deps.pool.ended(this.#asked)
  }

  async #handOver(container: ParkedContainer, image: ResolvedImage): Promise<Outcome | undefined> {
    const { attempt, toolProcess, record, request } = this.#tool
    const { entry } = record
    const { containerId, attachment } = container
    this.#deps.docker.handOver(containerId, container.id, attempt.owner)
    attempt.volumes = container.volumes
    entry.view.warm = true
    // Stored before it is told anything: a next start of the service finds the container by it.
    await record.insist({ status: 'preparing' }, toolProcess.signal, containerId)
    failpoint('pool.taken')
    try {
      const created = performance.now()
      const before = await fitOut(this.#deps, container, request, toolProcess.signal)
      record.timed('create_ms', created)
      toolProcess.signal.throwIfAborted()
      const started = performance.now()
      container.handOver(handOffOf(request, entry.id, image), image)
      attempt.startAsked = true
      entry.started = bootMoment()
      failpoint('pool.handed_over')
      const startedAt = new Date()
      record.timed('start_ms', started)
      const keepName = renameSoon(this.#deps, containerId, entry)
      const outcome = await toolProcess.follow({ attachment, image, startedAt, before }).finally(keepName)
      if (outcome !== undefined) return outcome
      attempt.startAsked = false
      this.#wasHandedOver = true
      return undefined
    } finally {
      container.close()
    }
  }
}
