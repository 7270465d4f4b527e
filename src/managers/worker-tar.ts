/** The tars that files of workers go in and out by: regular files and folders only, bounded, never unpacked here. */
import { posix } from 'node:path'
import type { Readable } from 'node:stream'
import { Readable as ReadableStream } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { extract, pack } from 'tar-stream'
import type { WrittenFiles } from '../domain/worker-file.ts'
import { AppError } from '../errors.ts'

/** Of one write, a file or all files of a folder. */
export const MAX_WRITE_BYTES = 256 * 1024 * 1024
const MAX_WRITE_FILES = 20_000
export const MAX_READ_BYTES = 1024 ** 3

type Tar = ReturnType<typeof pack>

interface Owner {
  uid: number
  gid: number
}

/** One file, beneath folders that are made for it: all `names` but the last. */
export function packFile(
  content: Readable,
  { names, bytes, mode, owner }: { names: readonly string[]; bytes: number; mode: number; owner: Owner },
): Tar {
  const tar = pack()
  addFolders(tar, names.slice(0, -1), owner)
  const sink = tar.entry({ name: names.join('/'), size: bytes, mode, ...owner }, (error) => {
    if (error) tar.destroy(error)
    else tar.finalize()
  })
  // Content of another size than it was said to have is the sink's failure.
  sink.on('error', (error) => tar.destroy(error))
  content.on('error', (error) => tar.destroy(error))
  content.pipe(sink)
  return tar
}

/**
 * A caller's tar made anew beneath `names`, which are made where they are `fresh`. `done` resolves when
 * all of it has passed, and rejects with what was wrong with it.
 */
export function repack(
  content: Readable,
  options: { names: readonly string[]; fresh: boolean; owner: Owner; written: WrittenFiles },
): { tar: Tar; done: Promise<void> } {
  const tar = pack()
  if (options.fresh) addFolders(tar, options.names, options.owner)
  const done = passOn(content, tar, options)
  done.catch((error: Error) => tar.destroy(error))
  return { tar, done }
}

async function passOn(
  content: Readable,
  tar: Tar,
  { names, owner, written }: { names: readonly string[]; owner: Owner; written: WrittenFiles },
): Promise<void> {
  const entries = extract()
  content.on('error', (error) => entries.destroy(error))
  content.pipe(entries)
  try {
    for await (const entry of entries) {
      const { type, size = 0, mode = 0o644, mtime = new Date() } = entry.header
      const parts = entry.header.name.split('/').filter((part) => part !== '' && part !== '.')
      if (entry.header.name.startsWith('/') || parts.includes('..')) {
        throw invalidTar(`"${entry.header.name}" leads out of the folder`)
      }
      const name = parts.join('/')
      if (name === '' && type !== 'directory') throw invalidTar('a file has no name')
      if (type !== 'file' && type !== 'directory')
        throw invalidTar(`"${name}" is a ${type}; only files and folders are taken`)
      written.bytes += size
      if (type === 'file') written.files += 1
      if (written.bytes > MAX_WRITE_BYTES || written.files > MAX_WRITE_FILES) throw tooLarge('The tar', MAX_WRITE_BYTES)
      const header = { name: posix.join(...names, name), mode: mode & 0o777, mtime, ...owner }
      if (type === 'file')
        await pipeline(ReadableStream.from(entry), tar.entry({ ...header, size }) as unknown as NodeJS.WritableStream)
      else {
        // The folder itself is there, or was made above.
        if (name !== '') tar.entry({ ...header, name: `${header.name}/`, type: 'directory' })
        entry.resume()
      }
    }
  } catch (error) {
    throw error instanceof AppError ? error : invalidTar(error instanceof Error ? error.message : String(error))
  }
  tar.finalize()
}

function addFolders(tar: Tar, names: readonly string[], owner: Owner): void {
  names.forEach((_, index) => {
    tar.entry({ name: `${names.slice(0, index + 1).join('/')}/`, type: 'directory', mode: 0o755, ...owner })
  })
}

/** Ends with an error once a tar is larger than what one read may have. */
export async function* bounded(tar: Readable, given: string): AsyncGenerator<Buffer> {
  let bytes = 0
  for await (const part of tar) {
    bytes += (part as Buffer).length
    if (bytes > MAX_READ_BYTES) throw tooLarge(given, MAX_READ_BYTES)
    yield part as Buffer
  }
}

export function tooLarge(what: string, limit: number): AppError {
  const most = `${Math.round(limit / 1024 ** 2)} MiB`
  return new AppError('body_too_large', `${what} is larger than the ${most} that are taken`, {
    hint: 'Take a part of it, or have a command pack it.',
  })
}

function invalidTar(message: string): AppError {
  return new AppError('validation_failed', `tar: ${message}`, { errors: [{ path: 'body', message }] })
}
