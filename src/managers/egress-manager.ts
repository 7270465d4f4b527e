/** The proxies by which containers of a profile with `egress` go out: one for each session and profile. */
import { createHash, randomUUID } from 'node:crypto'
import type { Engine } from '../engine/engine.ts'
import type { NetworkAttachment } from '../engine/spec.ts'
import { AppError, messageOf } from '../errors.ts'
import { EGRESS_PORT, egressAlias, egressConfig, planEgress } from '../policy/egress-proxy.ts'
import type { Egress } from '../policy/profiles.ts'
import type { DockerManager, OwnedContainer } from './docker-manager.ts'
import { InFlight } from './in-flight.ts'
import type { Log } from './log.ts'
import { containerName } from './names.ts'
import type { NetworkManager, SessionNetwork } from './network-manager.ts'
import type { Toolbox } from './toolbox.ts'
import { BUSYBOX } from './toolbox-programs.ts'

const EGRESS_IMAGE = 'container-orchestrator/egress:1'
const READY_MS = 20_000

/** Ends with 0 once the proxy takes connections. */
const UNTIL_READY = [
  BUSYBOX,
  'sh',
  '-c',
  `until ${BUSYBOX} nc -w 1 127.0.0.1 ${EGRESS_PORT} </dev/null >/dev/null; do ${BUSYBOX} usleep 20000; done 2>/dev/null`,
]

export interface EgressManagerOptions {
  engine: Engine
  docker: DockerManager
  networks: NetworkManager
  toolbox: Toolbox
  /** Name of the network by which proxies reach the outside; the engine's default bridge where absent. */
  outside: string | undefined
  log: Log
}

export class EgressManager {
  readonly #options: EgressManagerOptions
  readonly #making = new InFlight<void>()

  constructor(options: EgressManagerOptions) {
    this.#options = options
  }

  /**
   * The session's network with the profile's proxy in it, which takes connections. One that is configured
   * otherwise than the profile says now, or does not run, is replaced.
   */
  async ensure(sessionId: string, profile: { name: string; egress?: Egress }): Promise<SessionNetwork> {
    const network = await this.#options.networks.ensure(sessionId)
    const { egress, name } = profile
    if (egress === undefined) throw new Error(`profile "${name}" has no egress`)
    const config = egressConfig(egress, network.subnet ?? '')
    await this.#making.share(`${sessionId}\n${name}\n${config}`, () => this.#ensure(network, name, config))
    return network
  }

  /** Starts proxies that ended by themselves, or with their engine, again. */
  async revive(containers: readonly OwnedContainer[]): Promise<void> {
    const { engine, log } = this.#options
    for (const { id, name } of containers.filter(
      ({ owner, status }) => owner.kind === 'egress' && status === 'exited',
    )) {
      try {
        await engine.containers.start(id)
        log.warn({ event: 'egress.restarted', container: name }, 'a proxy had ended, and was started again')
      } catch (error) {
        log.warn({ event: 'egress.restart_failed', container: name, error: messageOf(error) }, 'a proxy did not start')
      }
    }
  }

  async #ensure(network: SessionNetwork, profile: string, config: string): Promise<void> {
    const { docker } = this.#options
    const id = `egress_${createHash('sha256').update(config).digest('hex').slice(0, 16)}`
    const present = (await docker.list({ session: network.sessionId })).filter(
      ({ owner }) => owner.kind === 'egress' && owner.name === profile,
    )
    if (present.some(({ owner, status }) => owner.id === id && status === 'running')) return
    for (const container of present) await docker.remove(container.id)
    await this.#make(network, profile, config, id)
  }

  async #make(network: SessionNetwork, profile: string, config: string, id: string): Promise<void> {
    const { docker, engine, log, toolbox } = this.#options
    const { sessionId } = network
    const [image, tools, outside] = await Promise.all([
      engine.images.inspect(EGRESS_IMAGE),
      toolbox.mount(),
      this.#outside(),
    ])
    if (image === undefined) {
      throw new AppError(
        'image_not_found',
        `The engine has no image ${EGRESS_IMAGE}, by which profile "${profile}" goes out`,
        {
          hint: 'The operator makes it with `npm run egress-image`.',
        },
      )
    }
    const nonce = randomUUID()
    const containerId = await docker.create({
      owner: { kind: 'egress', id, session: sessionId, name: profile, nonce },
      containerName: containerName('egress', profile, sessionId, nonce),
      imageId: image.id,
      plan: planEgress(config, BUSYBOX, [tools]),
      network: outside,
    })
    try {
      await engine.networks.connect(network.id, containerId, [egressAlias(profile)])
      await engine.containers.start(containerId)
      await this.#untilReady(containerId)
    } catch (error) {
      await docker.remove(containerId).catch(() => false)
      throw error
    }
    log.info(
      { event: 'egress.ready', session_id: sessionId, profile, container_id: containerId },
      'a proxy takes connections',
    )
  }

  async #outside(): Promise<NetworkAttachment> {
    const name = this.#options.outside
    if (name === undefined) return { mode: 'bridge' }
    const network = (await this.#options.engine.networks.list({})).find((candidate) => candidate.name === name)
    if (network !== undefined) return { mode: 'network', networkId: network.id, aliases: [], resolvesOutside: true }
    throw new AppError('engine_error', `The engine has no network "${name}", by which egress_network says to go out`, {
      hint: 'The operator makes that network, or names another one in the file that CO_CONFIG names.',
    })
  }

  async #untilReady(containerId: string): Promise<void> {
    const signal = AbortSignal.timeout(READY_MS)
    const exec = await this.#options.engine.containers.exec(containerId, { command: UNTIL_READY, stdin: false, signal })
    for await (const _ of exec.output);
    const { exitCode } = await exec.inspect()
    if (exitCode === 0) return
    throw new AppError('engine_error', 'The proxy by which the container was to go out did not take connections', {
      hint: "The proxy's log, by `docker logs`, says why.",
    })
  }
}
