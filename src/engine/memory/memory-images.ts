import { extract } from 'tar-stream'
import { EngineError } from '../../errors.ts'
import type { Labels } from '../../labels.ts'
import type { BuildOptions, ImageInfo, Images } from '../engine.ts'
import { carries, type World } from './world.ts'

const DEFAULTS = {
  bytes: 1024,
  user: '',
  workingDir: '/',
  environment: ['PATH=/bin'],
  entrypoint: [],
  command: ['sh'],
  labels: {},
}

export class MemoryImages implements Images {
  readonly #world: World
  readonly #pullable: ReadonlySet<string>

  /** `present` are on the engine, `pullable` in its registry. */
  constructor(world: World, present: readonly string[], pullable: readonly string[]) {
    this.#world = world
    this.#pullable = new Set(pullable)
    for (const reference of present) this.#add(reference, {})
  }

  async inspect(reference: string): Promise<ImageInfo | undefined> {
    return this.#world.images.get(this.#world.tags.get(reference) ?? reference)
  }

  async pull(reference: string, { onProgress }: { onProgress?: (text: string) => void }): Promise<void> {
    if (!this.#pullable.has(reference)) {
      throw new EngineError('image_not_found', `Image ${reference} is not on this engine and its registry has none`)
    }
    onProgress?.('Pulling')
    this.#add(reference, {})
    onProgress?.('Downloaded')
  }

  /** Understands FROM and RUN false; every other line succeeds. */
  async build({ context, tag, labels, onOutput }: BuildOptions): Promise<string> {
    let dockerfile = ''
    const entries = extract()
    context.pipe(entries)
    for await (const entry of entries) {
      for await (const part of entry) if (entry.header.name === 'Dockerfile') dockerfile += String(part)
    }
    let output = ''
    for (const line of dockerfile.split('\n').filter((candidate) => candidate.trim() !== '')) {
      output += `Step: ${line}\n`
      onOutput?.(`Step: ${line}\n`)
      const [keyword, ...rest] = line.trim().split(/\s+/)
      const base = keyword === 'FROM' ? (rest[0] ?? '') : undefined
      const missing = base !== undefined && base !== 'scratch' && !this.#world.tags.has(base)
      if (missing || (keyword === 'RUN' && rest.at(-1) === 'false')) {
        throw new EngineError('build_failed', `The build failed: ${line}`, { logsTail: output })
      }
    }
    return this.#add(tag, labels)
  }

  async changes(signal: AbortSignal): Promise<AsyncIterable<void>> {
    return this.#world.imageChanges.follow(signal)
  }

  async list(labels: Labels): Promise<string[]> {
    return [...this.#world.images.values()].filter((image) => carries(image.labels, labels)).map(({ id }) => id)
  }

  async remove(reference: string): Promise<boolean> {
    const id = this.#world.tags.get(reference) ?? reference
    for (const [tag, tagged] of this.#world.tags) if (tagged === id) this.#world.tags.delete(tag)
    this.#world.imageChanges.tell()
    return this.#world.images.delete(id)
  }

  #add(reference: string, labels: Labels): string {
    return this.#world.addImage(reference, { ...DEFAULTS, labels })
  }
}
