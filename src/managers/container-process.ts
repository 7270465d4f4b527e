import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Attachment, ContainerState, Engine, OutputChunk } from '../engine/engine.ts'
import { failpoint } from '../failpoints.ts'
import type { SpoolWriter } from '../store/spool-writer.ts'
import type { Spools } from '../store/spools.ts'
import { untilEnded } from './container-end.ts'
import { KnownOutput } from './known-output.ts'
import type { Log } from './log.ts'
import { OutputFollower } from './output-follower.ts'
import { tellSpool } from './output-source.ts'

/** After its end, what a process wrote last arrives within moments. */
const DRAIN_MS = 2_000

export interface ContainerProcessOptions {
  engine: Engine
  containerId: string
  spool: SpoolWriter
  log: Log
  /** Aborts when the service lets go of the container. */
  detach: AbortSignal
  /** What the process reads first; its stdin ends behind it. */
  stdin?: Readable
  /** The process before, where there was one. */
  former?: ContainerProcess | undefined
}

/** One run of a container's process: its output goes to the spool, and its end can be waited for. */
export class ContainerProcess {
  /** Resolves with the state at its end, undefined where the container is gone; rejects where the service lets go. */
  readonly exit: Promise<ContainerState | undefined>
  readonly #options: ContainerProcessOptions
  readonly #output: OutputFollower
  readonly #known: KnownOutput

  private constructor(options: ContainerProcessOptions, output: { attached?: Attachment; known: KnownOutput }) {
    const { engine, containerId, spool, detach, log } = options
    this.#options = options
    const take = ({ stream, bytes }: OutputChunk) => spool.append(stream, bytes)
    const { known, attached } = output
    this.#known = known
    this.#output = new OutputFollower({ engine, containerId, take, detach, log, drainMs: DRAIN_MS, known }, attached)
    this.exit = untilEnded(engine.containers, containerId, {
      signal: detach,
      onInterrupted: () => this.#output.interrupted(),
    })
    // Whoever waits sees a rejection too; without a waiter it is no fault.
    this.exit.then(
      (state) => this.#output.drained(state?.finishedAt),
      () => this.#output.end(),
    )
  }

  /** Starts the container with its output attached. */
  static async start(options: ContainerProcessOptions): Promise<ContainerProcess> {
    const { engine, containerId, stdin } = options
    const { containers } = engine
    // The engine's log of a container goes on over its starts, and with it what is known of it.
    const former = options.former?.of(containerId)
    await former?.exit.then(() => former.drained())
    const attachment = await containers.attach(options.containerId, {
      stdin: stdin !== undefined,
      signal: options.detach,
    })
    failpoint('process.attached')
    try {
      await containers.start(options.containerId)
      failpoint('process.started')
      if (stdin !== undefined) await pipeline(stdin, attachment.stdin)
    } catch (error) {
      attachment.close()
      throw error
    }
    const known = former === undefined ? new KnownOutput() : former.#known
    return new ContainerProcess(options, { attached: attachment, known })
  }

  /** Takes over a container that an earlier process started, with the output that the spool does not have yet. */
  static async adopt(options: ContainerProcessOptions, spools: Spools, id: string): Promise<ContainerProcess> {
    const known = new KnownOutput()
    await tellSpool(spools, id, [known])
    return new ContainerProcess(options, { known })
  }

  /** Itself where it is of this container. */
  of(containerId: string): ContainerProcess | undefined {
    return this.#options.containerId === containerId ? this : undefined
  }

  /** Ends the process, at once where there is no grace, and waits for the rest of its output. */
  async halt(graceSeconds: number): Promise<void> {
    const { engine, containerId } = this.#options
    if (graceSeconds > 0) await engine.containers.stop(containerId, graceSeconds)
    else await engine.containers.kill(containerId)
    await this.exit
    await this.drained()
  }

  /** Resolves when all output of an ended process is in the spool. */
  drained(): Promise<void> {
    return this.#output.drained()
  }
}
