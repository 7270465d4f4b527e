import { posix } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { extract } from 'tar-stream'
import type { Artifact } from '../domain/common.ts'
import type { ContainerState, Containers } from '../engine/engine.ts'
import { isEngineFault } from '../errors.ts'
import { isBeneath } from '../policy/volumes.ts'
import type { Artifacts } from '../store/artifacts.ts'
import { OutputFolder, type OutputLook } from './output-folder.ts'
import { OUTPUT_FOLDER } from './writable-folders.ts'

const MAX_FILES = 1_000
const MAX_BYTES = 512 * 1024 * 1024
const MAX_RESULT_BYTES = 4 * 1024 * 1024
const COLLECT_DEADLINE_MS = 120_000
const RESULT_FILE = `${OUTPUT_FOLDER}/result.json`

export interface Collected {
  artifacts: Artifact[]
  /** Text of the result file, where the tool wrote one. */
  resultFile: string | undefined
  /** Why something is missing. */
  warnings: string[]
}

/** Takes the files out of an ended container, as regular files only, bounded in number and size. */
export class ArtifactCollector {
  readonly #containers: Containers
  readonly #artifacts: Artifacts
  readonly #outputFolder: OutputFolder

  constructor(containers: Containers, artifacts: Artifacts) {
    this.#containers = containers
    this.#artifacts = artifacts
    this.#outputFolder = new OutputFolder(containers)
  }

  /** What `/output` looks like before the start: `collect` reads it only where it has changed. */
  outputBefore(containerId: string): Promise<OutputLook> {
    return this.#outputFolder.look(containerId)
  }

  async collect(
    runId: string,
    { id: containerId, mounts }: Pick<ContainerState, 'id' | 'mounts'>,
    outputPaths: readonly string[],
    before: OutputLook,
  ): Promise<Collected> {
    const collected: Collected = { artifacts: [], resultFile: undefined, warnings: [] }
    const after = await this.#outputFolder.look(containerId, mounts)
    const changed = after !== undefined && after !== before
    const paths = outputPaths.map((path) => posix.normalize(path).replace(/(.)\/$/, '$1'))
    const output = changed || paths.some((path) => isBeneath(path, OUTPUT_FOLDER)) ? [OUTPUT_FOLDER] : []
    for (const path of [...output, ...paths.filter((other) => !isBeneath(other, OUTPUT_FOLDER))]) {
      await this.#collectPath(runId, containerId, path, collected)
    }
    collected.artifacts.sort((a, b) => (a.path < b.path ? -1 : 1))
    return collected
  }

  async #collectPath(runId: string, containerId: string, path: string, collected: Collected): Promise<void> {
    let tar: Readable
    const signal = AbortSignal.timeout(COLLECT_DEADLINE_MS)
    try {
      tar = await this.#containers.readArchive(containerId, path, signal)
    } catch (error) {
      if (!isEngineFault(error, 'not_found')) throw error
      collected.warnings.push(`${path} does not exist`)
      return
    }
    const entries = extract()
    // The extractor passes on what breaks the stream, and ends it when reading stops early.
    tar.on('error', (error) => entries.destroy(error))
    tar.pipe(entries)
    try {
      for await (const entry of entries) {
        // Names in the tar begin with the path's last part.
        const name = posix.join(posix.dirname(path), entry.header.name)
        const size = entry.header.size ?? 0
        const total = collected.artifacts.reduce((sum, artifact) => sum + artifact.bytes, 0)
        const room = collected.artifacts.length < MAX_FILES && total + size <= MAX_BYTES
        if (entry.header.type !== 'file' || !isBeneath(name, path) || !room) {
          if (entry.header.type !== 'directory') {
            collected.warnings.push(
              room ? `${name} is not a regular file` : `${name} exceeds what a run may leave behind`,
            )
          }
          entry.resume()
          continue
        }
        await this.#keep(runId, name, Readable.from(entry), collected)
      }
    } finally {
      tar.destroy()
    }
  }

  async #keep(runId: string, path: string, content: Readable, collected: Collected): Promise<void> {
    const parts: Buffer[] = []
    let bytes = 0
    const source = new PassThrough()
    content.on('error', (error) => source.destroy(error))
    if (path === RESULT_FILE) {
      content.on('data', (part: Buffer) => {
        bytes += part.length
        if (bytes <= MAX_RESULT_BYTES) parts.push(part)
      })
    }
    content.pipe(source)
    const kept = await this.#artifacts.save(runId, source)
    collected.artifacts.push({ path, ...kept })
    if (path === RESULT_FILE && bytes <= MAX_RESULT_BYTES) collected.resultFile = Buffer.concat(parts).toString('utf8')
  }
}
