/** Things on an engine that look like a service's, and are not: what nobody may touch. */
import { randomUUID } from 'node:crypto'
import type { Engine } from '../../src/engine/engine.ts'
import { encodeLabels, KINDS, type Labels } from '../../src/labels.ts'
import { leastContainer } from '../fixtures/container-spec.ts'

export interface DecoyOptions {
  engine: Engine
  imageId: string
  count: number
  /** Ids that the services under test use too. */
  names: { session: string; relic: string; worker: string }
  /** Of instances that are under test; decoys carry what is nearly theirs. */
  instances: readonly string[]
}

interface Decoy {
  kind: 'container' | 'network' | 'volume'
  /** Of a container or network, or the name of a volume. */
  id: string
}

const OWN_RANGE = 196

export class Decoys {
  readonly #engine: Engine
  readonly #made: Decoy[] = []

  private constructor(engine: Engine) {
    this.#engine = engine
  }

  /** A third of each kind; half with labels of another instance, half with names like ours and none. */
  static async make(options: DecoyOptions): Promise<Decoys> {
    const decoys = new Decoys(options.engine)
    for (let number = 0; number < options.count; number++) await decoys.#add(number, options)
    return decoys
  }

  get count(): number {
    return this.#made.length
  }

  /** Those that are gone, or that were detached from their network or changed. */
  async missing(): Promise<string[]> {
    const found = await Promise.all(this.#made.map(async (decoy) => ((await this.#exists(decoy)) ? [] : [decoy])))
    return found.flat().map(({ kind, id }) => `${kind} ${id}`)
  }

  async remove(): Promise<void> {
    const { containers, networks, volumes } = this.#engine
    // Containers first: they hold networks.
    for (const { kind, id } of this.#made.toSorted((a, b) => a.kind.localeCompare(b.kind))) {
      if (kind === 'container') await containers.remove(id)
      else if (kind === 'network') await networks.remove(id)
      else await volumes.remove(id)
    }
  }

  async #add(number: number, { imageId, names, instances }: DecoyOptions): Promise<void> {
    const { containers, networks, volumes } = this.#engine
    const own = randomUUID().slice(0, 8)
    const labels = number % 2 === 0 ? foreignLabels(number, names, instances) : {}
    const kind = (['container', 'volume', 'network'] as const)[number % 3] ?? 'container'
    if (kind === 'container') {
      const name = `${['tool_tool', `relic_${names.relic}`, `worker_${names.worker}`][number % 2]}_${names.session}_${own}`
      this.#made.push({ kind, id: await containers.create(leastContainer({ name, imageId, labels })) })
      return
    }
    if (kind === 'volume') {
      const name = `${[`volume_${names.session}_ledger`, `worker_${names.worker}_workspace`][number % 2]}_${own}`
      await volumes.create(name, labels)
      this.#made.push({ kind, id: name })
      return
    }
    const name = `${[`session_${names.session}`, 'internal'][number % 2]}_${own}`
    const subnet = `10.${OWN_RANGE}.${Math.floor(number / 8)}.${(number % 8) * 32}/27`
    this.#made.push({ kind, id: await networks.create({ name, subnet, internal: true, labels }) })
  }

  async #exists({ kind, id }: Decoy): Promise<boolean> {
    const { containers, networks, volumes } = this.#engine
    if (kind === 'container') return (await containers.inspect(id))?.status === 'created'
    return (kind === 'network' ? await networks.inspect(id) : await volumes.inspect(id)) !== undefined
  }
}

/** Complete labels of another instance, or labels that lack what makes them ours. */
function foreignLabels(number: number, { session }: DecoyOptions['names'], instances: readonly string[]): Labels {
  const other = randomUUID()
  const like = instances[number % instances.length] ?? other
  const instance = [other, like.slice(0, 8), like.toUpperCase(), `${like}0`][Math.floor(number / 2) % 4] ?? other
  const kind = KINDS[number % KINDS.length] ?? 'tool'
  return encodeLabels({ instance, kind, id: `exec_${randomUUID()}`, session, name: 'tool', nonce: randomUUID() })
}
