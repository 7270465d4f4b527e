import type { Availability } from '../engine/availability.ts'
import type { NetworkAttachment, SandboxSpec } from '../engine/spec.ts'
import { isEngineFault, messageOf } from '../errors.ts'
import { InFlight } from './in-flight.ts'
import type { Log } from './log.ts'
import type { Toolbox } from './toolbox.ts'
import { programPath } from './toolbox-programs.ts'

/** What was seen of an engine. */
interface Seen {
  attachment: NetworkAttachment
  /** When the engine was back last: another time, and it may be another engine. */
  restoredAt: Date | undefined
  /** Milliseconds on a clock that nobody sets, from when it is looked at again. */
  until: number
}

/** What could not be looked at, for whatever reason, is looked at again after so long. */
const UNSEEN_MS = 60_000

/** The engine sets the network up, and fills /etc/hosts itself. */
const BY_THE_ENGINE: NetworkAttachment = { mode: 'none' }

/**
 * Containers that have their loopback alone. An engine that is told of no network at all starts them in
 * less than half the time, since it makes no network sandbox; what a process sees is the same. That
 * this holds is seen once for each runtime, in a container of the service's own, and again whenever the
 * engine was away: it may be another one then.
 */
export class LoopbackOnly {
  readonly #availability: Pick<Availability, 'restoredAt'>
  readonly #toolbox: Toolbox
  readonly #log: Log
  /** By runtime; the engine's default has no name. */
  readonly #seen = new Map<string, Seen>()
  readonly #looking = new InFlight<NetworkAttachment>()

  constructor(options: { availability: Pick<Availability, 'restoredAt'>; toolbox: Toolbox; log: Log }) {
    this.#availability = options.availability
    this.#toolbox = options.toolbox
    this.#log = options.log
  }

  /**
   * How a container is attached, the fast way where that is known to leave it alone. One whose root can be written
   * to gets its own /etc/hosts from the engine. Never rejects.
   */
  async attachment({
    readonlyRoot,
    runtime,
  }: Pick<SandboxSpec, 'readonlyRoot' | 'runtime'>): Promise<NetworkAttachment> {
    if (!readonlyRoot) return BY_THE_ENGINE
    const seen = this.#seen.get(runtime ?? '')
    if (seen !== undefined && this.#isCurrent(seen)) return seen.attachment
    return this.#looking.share(runtime ?? '', () => this.#look(runtime))
  }

  /** Makes a container that is attached so; the engine's own way where the file of hosts is gone. */
  async made(network: NetworkAttachment, make: (network: NetworkAttachment) => Promise<string>): Promise<string> {
    try {
      return await make(network)
    } catch (error) {
      const hostsFile = network.mode === 'none' ? network.hostsFile : undefined
      if (hostsFile === undefined) throw error
      // Engines tell the path that they do not find, with one fault or the other.
      const isGone = isEngineFault(error, 'invalid', 'failed') && messageOf(error).includes(hostsFile)
      if (!isGone) throw error
      const made = await make(BY_THE_ENGINE)
      const unseen = { attachment: BY_THE_ENGINE, restoredAt: this.#availability.restoredAt, until: soon() }
      for (const runtime of this.#seen.keys()) this.#seen.set(runtime, unseen)
      this.#tellUnseen(error)
      return made
    }
  }

  #isCurrent({ restoredAt, until }: Seen): boolean {
    return restoredAt === this.#availability.restoredAt && performance.now() < until
  }

  async #look(runtime: string | undefined): Promise<NetworkAttachment> {
    const { restoredAt } = this.#availability
    let attachment = BY_THE_ENGINE
    let until = Number.POSITIVE_INFINITY
    try {
      attachment = await this.#fastest(runtime)
    } catch (error) {
      until = soon()
      this.#tellUnseen(error)
    }
    this.#seen.set(runtime ?? '', { attachment, restoredAt, until })
    return attachment
  }

  #tellUnseen(error: unknown): void {
    this.#log.warn(
      { event: 'loopback.not_seen', error: messageOf(error) },
      'containers without a network start slower: what they would see without a sandbox could not be looked at',
    )
  }

  async #fastest(runtime: string | undefined): Promise<NetworkAttachment> {
    const hostsFile = await this.#toolbox.hostsFile()
    if (hostsFile === undefined) return BY_THE_ENGINE
    const attachment = { mode: 'none', hostsFile } as const
    const isAlone = (await this.#toolbox.run(programPath('loopback-alone'), attachment, runtime)) === 0
    this.#log.info(
      { event: 'loopback.seen', runtime, alone: isAlone },
      isAlone
        ? 'containers without a network start without a sandbox of the engine'
        : 'containers without a network start with a sandbox of the engine, since they would not be alone without',
    )
    return isAlone ? attachment : BY_THE_ENGINE
  }
}

function soon(): number {
  return performance.now() + UNSEEN_MS
}
