import { randomUUID } from 'node:crypto'
import type { Attachment, Engine, ImageInfo } from '../engine/engine.ts'
import type { NetworkAttachment } from '../engine/spec.ts'
import { EngineError } from '../errors.ts'
import { failpoint } from '../failpoints.ts'
import type { ArtifactCollector } from './artifact-collector.ts'
import type { DockerManager } from './docker-manager.ts'
import { encodeHandOff, type HandOff } from './hand-off.ts'
import type { LoopbackOnly } from './loopback-only.ts'
import { newId } from './names.ts'
import type { NetworkManager } from './network-manager.ts'
import type { OutputLook } from './output-folder.ts'
import { type ParkingPlan, parkingMounts } from './parking-plan.ts'
import type { Toolbox } from './toolbox.ts'

export interface ParkingDeps {
  engine: Engine
  docker: DockerManager
  networks: NetworkManager
  toolbox: Toolbox
  loopback: LoopbackOnly
  collector: ArtifactCollector
}

/** A container that runs, and waits on its stdin for the one tool that it is to become. */
export class ParkedContainer {
  readonly plan: ParkingPlan
  /** What its labels say it is. */
  readonly id: string
  readonly containerId: string
  readonly attachment: Attachment
  /** Of its own, beside its anonymous ones. */
  readonly volumes: readonly string[]
  /** What /output looked like before anything ran. */
  readonly outputBefore: OutputLook
  readonly #watching = new AbortController()
  #isTaken = false
  #hasEnded = false

  private constructor(
    plan: ParkingPlan,
    made: Pick<ParkedContainer, 'id' | 'containerId' | 'attachment' | 'volumes' | 'outputBefore'>,
  ) {
    this.plan = plan
    this.id = made.id
    this.containerId = made.containerId
    this.attachment = made.attachment
    this.volumes = made.volumes
    this.outputBefore = made.outputBefore
  }

  /** Makes and starts one, with its output attached. Leaves nothing where it fails. */
  static async park(deps: ParkingDeps, plan: ParkingPlan, id = newId('pool')): Promise<ParkedContainer> {
    const { collector, docker, engine, toolbox } = deps
    const nonce = randomUUID()
    const sources = new Map(plan.opensFolders ? plan.folders.map((folder, at) => [folder, `${id}_${at}`]) : [])
    const volumes = [...sources.values()]
    let containerId: string | undefined
    try {
      const [tools, network] = await Promise.all([
        toolbox.mount(),
        attachmentOf(deps, plan),
        ...volumes.map((name) => toolbox.openVolume(name, { id, nonce })),
      ])
      containerId = await deps.loopback.made(network, (attached) =>
        docker.create({
          owner: { kind: 'pool', id, nonce },
          containerName: id,
          imageId: plan.imageId,
          plan: { ...plan.container, mounts: [...parkingMounts(plan, sources), tools] },
          network: attached,
          labels: plan.labels,
        }),
      )
      failpoint('pool.created')
      const [attachment, outputBefore] = await Promise.all([
        engine.containers.attach(containerId, { stdin: true }),
        collector.outputBefore(containerId),
      ])
      attachment.stdin.on('error', () => {
        // It ended, or its tool did before it had read everything.
      })
      await engine.containers.start(containerId)
      // What is in no network can still be taken into one; what was made for none cannot.
      if (network.mode === 'network') await engine.networks.disconnect(network.networkId, containerId)
      failpoint('pool.parked')
      return new ParkedContainer(plan, { id, containerId, attachment, volumes, outputBefore })
    } catch (error) {
      if (containerId !== undefined) docker.removeLater(containerId, volumes)
      else await Promise.all(volumes.map((name) => engine.volumes.remove(name).catch(() => false)))
      throw error
    }
  }

  /** False once its process has ended, or may have. */
  get isWaiting(): boolean {
    return !this.#hasEnded && !this.attachment.stdin.destroyed
  }

  /** Calls back once where it ends, or the connection to the engine breaks, before it is taken. */
  watch({ engine }: Pick<ParkingDeps, 'engine'>, onEnd: () => void): void {
    const ended = () => {
      if (this.#watching.signal.aborted || this.#hasEnded) return
      this.#hasEnded = true
      if (!this.#isTaken) onEnd()
    }
    this.attachment.stdin.once('close', ended)
    void engine.containers.wait(this.containerId, this.#watching.signal).then(ended, ended)
  }

  /** From here on it is looked after by who takes it. */
  take(): void {
    this.#isTaken = true
  }

  /**
   * Tells it what to become. Whether that arrives, only its end tells. Throws where it has ended: then
   * nothing is told.
   */
  handOver(handOff: HandOff, image: Pick<ImageInfo, 'environment'>): void {
    if (!this.isWaiting) throw new EngineError('failed', 'The parked container ended before it was told what to run')
    this.#watching.abort()
    this.attachment.stdin.end(encodeHandOff(handOff, image))
  }

  /** Lets go of its connections to the engine: one that was told nothing ends by that. */
  close(): void {
    this.#watching.abort()
    this.attachment.close()
  }
}

/** One that is to join a session's network waits in that of the workers until it runs. */
async function attachmentOf({ loopback, networks }: ParkingDeps, plan: ParkingPlan): Promise<NetworkAttachment> {
  if (plan.network === 'bridge') return { mode: 'bridge' }
  if (plan.network === 'none') return loopback.attachment(plan.container.sandbox)
  return { mode: 'network', networkId: (await networks.ensureInternal()).id, aliases: [] }
}
