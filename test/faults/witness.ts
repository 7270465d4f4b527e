/**
 * Sees how often each run began, by what its containers write: for runs that leave no trace elsewhere. It
 * watches each container of an installation from its making on, and outlives the service.
 */
import type { Engine, OutputChunk } from '../../src/engine/engine.ts'
import { ownedBy } from '../../src/labels.ts'

/** The shell line by which a run tells that it begins. */
export const BEGUN = 'echo "began $EXECUTION_ID" >&2'
const TOLD = /^began (\S+)$/

export class Witness {
  readonly #engine: Engine
  readonly #over = new AbortController()
  /** Containers in which each run began. */
  readonly #seen = new Map<string, Set<string>>()
  #watching: Promise<void> = Promise.resolve()

  private constructor(engine: Engine) {
    this.#engine = engine
  }

  /** Sees all that is made from now on. */
  static async of(engine: Engine, instance: string): Promise<Witness> {
    const witness = new Witness(engine)
    const { signal } = witness.#over
    const events = await engine.events(ownedBy(instance), signal)
    witness.#watching = (async () => {
      for await (const { action, containerId } of events) {
        // Attached too late, it misses the beginning; the log, of one that is gone already.
        if (action === 'create') void witness.#see(containerId, witness.#attached(containerId))
        if (action === 'start')
          void witness.#see(containerId, engine.containers.logs(containerId, { follow: true, signal }))
      }
    })()
    // Its end is an abort.
    witness.#watching.catch(() => {})
    return witness
  }

  /** How often the process of a run began. */
  began(executionId: string): number {
    return this.#seen.get(executionId)?.size ?? 0
  }

  async end(): Promise<void> {
    this.#over.abort()
    await this.#watching.catch(() => {})
  }

  async *#attached(containerId: string): AsyncGenerator<OutputChunk> {
    const { signal } = this.#over
    const attachment = await this.#engine.containers.attach(containerId, { stdin: false, signal })
    yield* attachment.output
  }

  async #see(containerId: string, output: AsyncIterable<OutputChunk>): Promise<void> {
    let held = ''
    try {
      for await (const { stream, bytes } of output) {
        if (stream !== 'stderr') continue
        const lines = (held + bytes.toString()).split('\n')
        held = lines.pop() ?? ''
        for (const line of lines) this.#note(TOLD.exec(line)?.[1], containerId)
      }
    } catch {
      // It was removed, or this is over.
    }
  }

  #note(executionId: string | undefined, containerId: string): void {
    if (executionId === undefined) return
    this.#seen.set(executionId, (this.#seen.get(executionId) ?? new Set()).add(containerId))
  }
}
