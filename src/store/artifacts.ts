import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'

/** Files that runs left behind, by run and content hash: no name from a container becomes a path. */
export class Artifacts {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  /** Keeps the content of a stream; answers its size and hash. */
  async save(runId: string, content: Readable): Promise<{ bytes: number; sha256: string }> {
    const folder = join(this.#folder, runId)
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const partial = join(folder, `.partial-${process.hrtime.bigint()}`)
    const hash = createHash('sha256')
    let bytes = 0
    const measure = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        hash.update(chunk)
        bytes += chunk.length
        done(null, chunk)
      },
    })
    try {
      await pipeline(content, measure, createWriteStream(partial, { mode: 0o600 }))
      const sha256 = hash.digest('hex')
      await rename(partial, join(folder, sha256))
      return { bytes, sha256 }
    } catch (error) {
      await rm(partial, { force: true })
      throw error
    }
  }

  /** The content with this hash; the stream fails where there is none. */
  read(runId: string, sha256: string): Readable {
    return createReadStream(join(this.#folder, runId, sha256))
  }

  async remove(runId: string): Promise<void> {
    await rm(join(this.#folder, runId), { recursive: true, force: true })
  }
}
