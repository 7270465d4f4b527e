/** Files in workers, through the engine's archive calls: they work on stopped ones as well. */
import { randomUUID } from 'node:crypto'
import { posix } from 'node:path'
import { Readable } from 'node:stream'
import { extract, type pack } from 'tar-stream'
import { ANYONE, type Caller } from '../domain/caller.ts'
import { timestamp } from '../domain/common.ts'
import type { WorkerFile, WorkerFolder, WrittenFiles } from '../domain/worker-file.ts'
import type { Engine, PathStat } from '../engine/engine.ts'
import { AppError, isEngineFault } from '../errors.ts'
import { isBeneath } from '../policy/volumes.ts'
import { boundaryOf, requireOpen, workerPath } from '../policy/worker-paths.ts'
import type { Log } from './log.ts'
import { firstFile } from './tar-file.ts'
import { BUSYBOX } from './toolbox-programs.ts'
import { runBriefly } from './worker-command.ts'
import type { WorkerLife } from './worker-life.ts'
import type { WorkerManager } from './worker-manager.ts'
import { bounded, MAX_READ_BYTES, MAX_WRITE_BYTES, packFile, repack, tooLarge } from './worker-tar.ts'

/** Content that a listing passes over, and entries that it answers. */
const MAX_LISTED_BYTES = 8 * 1024 ** 3
const MAX_LISTED = 10_000
const MAX_LISTING = 4 * 1024 * 1024
const LIST_DEADLINE_MS = 10_000
/** A name may hold line ends: each record ends with a mark that no file knows. */
const LIST = `cd "$1" || exit 1
mark=$2
set -- * .[!.]* ..?*
[ $# -gt ${MAX_LISTED} ] && exit 1
${BUSYBOX} stat -c "%F/%s/%Y/%n/$mark" -- "$@" 2>/dev/null
[ $? -lt 126 ]`
/** Words of stat's %F. */
const FILE_TYPES: Readonly<Record<string, WorkerFile['type']>> = {
  'regular file': 'file',
  'regular empty file': 'file',
  directory: 'directory',
  'symbolic link': 'symlink',
}
const MAX_LINKS = 16
const DEADLINE_MS = 10 * 60_000

export interface ReadFile {
  type: 'file'
  bytes: number
  content: Readable
}

export interface ReadFolder {
  type: 'folder'
  /** A tar; its first entry is the folder. */
  content: Readable
}

/** Where a path leads once its symlinks are followed. */
interface Located {
  path: string
  /** Undefined where nothing is there yet. */
  stat: PathStat | undefined
  /** Parts of the path that are missing, the last part among them. */
  missing: readonly string[]
}

export interface WorkerFilesOptions {
  engine: Engine
  workers: WorkerManager
  log: Log
}

export class WorkerFiles {
  readonly #options: WorkerFilesOptions
  readonly #engine: Engine
  readonly #workers: WorkerManager

  constructor(options: WorkerFilesOptions) {
    this.#options = options
    this.#engine = options.engine
    this.#workers = options.workers
  }

  /** A file's content, or a folder as a tar. */
  async read(
    workerId: string,
    given: string,
    signal: AbortSignal,
    caller: Caller = ANYONE,
  ): Promise<ReadFile | ReadFolder> {
    const { containerId } = await this.#container(workerId, caller)
    const { path, stat } = await this.#locate(containerId, workerPath(given))
    if (stat === undefined) throw notFound(given)
    // It holds what is not the worker's.
    if (path === '/')
      throw new AppError('policy_denied', 'The root folder is not read whole', {
        rule: 'file_path',
        hint: 'Name a folder in it.',
      })
    const tar = await this.#archive(containerId, path, signal)
    if (stat.isDirectory) return { type: 'folder', content: Readable.from(bounded(tar, given)) }
    const file = await firstFile(tar)
    if (file === undefined) throw notRegular(given)
    if (file.bytes > MAX_READ_BYTES) {
      file.content.destroy()
      throw tooLarge(given, MAX_READ_BYTES)
    }
    return { type: 'file', ...file }
  }

  /** What lies in a folder, by name. */
  async list(workerId: string, given: string, signal: AbortSignal, caller: Caller = ANYONE): Promise<WorkerFolder> {
    const { life, containerId } = await this.#container(workerId, caller)
    const { path, stat } = await this.#locate(containerId, workerPath(given))
    if (stat === undefined) throw notFound(given)
    if (!stat.isDirectory) {
      throw new AppError('validation_failed', `path: ${given} is not a folder`, {
        errors: [{ path: 'path', message: 'is not a folder' }],
      })
    }
    const seen = life.entry.view.status === 'running' ? await this.#lookInside(containerId, path) : undefined
    const items = seen ?? (await this.#lookInArchive(containerId, path, signal))
    return { path, items: items.toSorted((a, b) => (a.name < b.name ? -1 : 1)) }
  }

  /** By a command inside, as fast as the folder is small; undefined where that cannot tell. */
  async #lookInside(containerId: string, path: string): Promise<WorkerFile[] | undefined> {
    const mark = randomUUID()
    const looked = await runBriefly(
      this.#options,
      containerId,
      { command: [BUSYBOX, 'sh', '-c', LIST, 'list', path, mark] },
      LIST_DEADLINE_MS,
      { limit: MAX_LISTING },
    ).catch(() => undefined)
    if (looked?.exitCode !== 0 || looked.stdout.length >= MAX_LISTING) return undefined
    return looked.stdout.split(`/${mark}\n`).flatMap((record) => {
      const match = /^([a-z ]+)\/(\d+)\/(-?\d+)\/(.+)$/s.exec(record)
      if (match === null) return []
      const [, type = '', bytes = '0', seconds = '0', name = ''] = match
      const kind = FILE_TYPES[type] ?? 'other'
      const modified_at = timestamp(new Date(Number(seconds) * 1000))
      return [
        { name, path: posix.join(path, name), type: kind, bytes: kind === 'file' ? Number(bytes) : 0, modified_at },
      ]
    })
  }

  /** From the folder's archive, all of which passes: what is left for one that does not run. */
  async #lookInArchive(containerId: string, path: string, signal: AbortSignal): Promise<WorkerFile[]> {
    const items: WorkerFile[] = []
    const base = posix.basename(path)
    await this.#eachEntry(containerId, path, signal, (header) => {
      const name = posix.relative(base, header.name.replace(/\/$/, ''))
      if (name === '' || name.includes('/')) return
      items.push({
        name,
        path: posix.join(path, name),
        type: typeOf(header.type),
        bytes: header.size,
        modified_at: timestamp(header.mtime),
      })
      if (items.length > MAX_LISTED) throw tooLarge(path, MAX_LISTED_BYTES)
    })
    return items
  }

  /** Writes one file, with the folders that it lies in. */
  async write(
    workerId: string,
    given: string,
    content: Readable,
    options: { bytes: number; mode: number; signal: AbortSignal },
    caller: Caller = ANYONE,
  ): Promise<WrittenFiles> {
    const { bytes, mode, signal } = options
    if (bytes > MAX_WRITE_BYTES) throw tooLarge(given, MAX_WRITE_BYTES)
    const { life, containerId } = await this.#container(workerId, caller)
    const place = await this.#place(containerId, given)
    if (place.stat?.isDirectory) throw conflict(`${given} is a folder; write to a file in it, or send a tar`)
    const { base, names } = place
    const tar = packFile(content, { names, bytes, mode, owner: ownerOf(life) })
    await this.#unpack(containerId, base, tar, given, signal)
    return { path: place.path, files: 1, bytes }
  }

  /** Unpacks a tar into a folder: regular files and folders only, as files of the worker's user. */
  async writeFolder(
    workerId: string,
    given: string,
    content: Readable,
    signal: AbortSignal,
    caller: Caller = ANYONE,
  ): Promise<WrittenFiles> {
    const { life, containerId } = await this.#container(workerId, caller)
    const place = await this.#place(containerId, given)
    if (place.stat !== undefined && !place.stat.isDirectory) throw conflict(`${given} is a file, not a folder`)
    const written: WrittenFiles = { path: place.path, files: 0, bytes: 0 }
    const names = place.stat === undefined ? place.names : [posix.basename(place.path)]
    const { tar, done } = repack(content, { names, fresh: place.stat === undefined, owner: ownerOf(life), written })
    const [unpacked] = await Promise.allSettled([this.#unpack(containerId, place.base, tar, given, signal), done])
    // What was wrong with the tar says more than what the engine made of its end.
    await done
    if (unpacked.status === 'rejected') throw unpacked.reason
    return written
  }

  async #container(workerId: string, caller: Caller): Promise<{ life: WorkerLife; containerId: string }> {
    const life = await this.#workers.life(workerId, caller)
    const { containerId } = life.entry
    if (containerId !== null) return { life, containerId }
    throw conflict(`Worker "${workerId}" has no container whose files could be read or written`)
  }

  /** Where a write goes: an existing folder, and the names beneath it. */
  async #place(
    containerId: string,
    given: string,
  ): Promise<{ path: string; base: string; names: readonly string[]; stat: PathStat | undefined }> {
    const { path, stat, missing } = await this.#locate(containerId, workerPath(given))
    if (stat !== undefined) return { path, base: posix.dirname(path), names: [posix.basename(path)], stat }
    const base = path.split('/').slice(0, -missing.length).join('/') || '/'
    return { path, base, names: missing, stat }
  }

  /**
   * Follows a path part by part. A symlink is followed where it stays within the workspace (or, outside
   * of it, within the same folder of the root); one that leads out is denied.
   */
  async #locate(containerId: string, path: string): Promise<Located> {
    const boundary = boundaryOf(path)
    let rest = path.split('/').filter((part) => part !== '')
    let at = '/'
    for (let links = 0; ; ) {
      const [part, ...further] = rest
      if (part === undefined) return { path: at, stat: await this.#stat(containerId, at), missing: [] }
      const next = posix.join(at, part)
      const stat = await this.#stat(containerId, next)
      if (stat === undefined) return { path: posix.join(at, ...rest), stat: undefined, missing: rest }
      if (!stat.isSymlink) {
        at = next
        rest = further
        if (further.length > 0 && !stat.isDirectory) throw conflict(`${next} is not a folder`)
        if (further.length === 0) return { path: at, stat, missing: [] }
        continue
      }
      links += 1
      const target = posix.resolve(at, stat.linkTarget)
      if (links > MAX_LINKS || !isBeneath(target, boundary)) {
        throw new AppError('policy_denied', `${next} is a symbolic link that leads out of ${boundary}`, {
          rule: 'file_path',
        })
      }
      requireOpen(target)
      rest = [...target.split('/').filter((name) => name !== ''), ...further]
      at = '/'
    }
  }

  /** The engine follows links of its own when it looks; those that lead in a circle are its failure. */
  async #stat(containerId: string, path: string): Promise<PathStat | undefined> {
    try {
      return await this.#engine.containers.statPath(containerId, path)
    } catch (error) {
      if (!isEngineFault(error, 'failed', 'invalid')) throw error
      throw new AppError('policy_denied', `${path} cannot be followed to a file`, { rule: 'file_path', cause: error })
    }
  }

  async #archive(containerId: string, path: string, signal: AbortSignal): Promise<Readable> {
    try {
      const limited = AbortSignal.any([signal, AbortSignal.timeout(DEADLINE_MS)])
      return await this.#engine.containers.readArchive(containerId, path, limited)
    } catch (error) {
      if (isEngineFault(error, 'not_found')) throw notFound(path)
      throw error
    }
  }

  async #eachEntry(
    containerId: string,
    path: string,
    signal: AbortSignal,
    tell: (header: { name: string; type: string; size: number; mtime: Date }) => void,
  ): Promise<void> {
    const tar = await this.#archive(containerId, path, signal)
    const entries = extract()
    tar.on('error', (error) => entries.destroy(error))
    tar.pipe(entries)
    let bytes = 0
    try {
      for await (const entry of entries) {
        const { name, type, size, mtime } = entry.header
        bytes += size ?? 0
        if (bytes > MAX_LISTED_BYTES) throw tooLarge(path, MAX_LISTED_BYTES)
        tell({ name, type: type ?? 'file', size: size ?? 0, mtime: mtime ?? new Date(0) })
        entry.resume()
      }
    } finally {
      tar.destroy()
    }
  }

  async #unpack(
    containerId: string,
    folder: string,
    tar: ReturnType<typeof pack>,
    given: string,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      const limited = AbortSignal.any([signal, AbortSignal.timeout(DEADLINE_MS)])
      await this.#engine.containers.writeArchive(containerId, folder, Readable.from(tar), limited)
    } catch (error) {
      if (/read-only/i.test(String(error))) {
        throw new AppError('policy_denied', `${given} lies on a read-only file system`, {
          rule: 'file_path',
          hint: 'Write beneath /workspace. What lives in memory (/tmp, the home folder) is written by a command.',
        })
      }
      throw error
    }
  }
}

function ownerOf({ entry }: WorkerLife): { uid: number; gid: number } {
  const [uid = 0, gid = 0] = (entry.view.user ?? '0:0').split(':').map(Number)
  return { uid, gid }
}

function typeOf(type: string): WorkerFile['type'] {
  if (type === 'file' || type === 'directory' || type === 'symlink') return type
  return 'other'
}

function notFound(path: string): AppError {
  return new AppError('not_found', `There is no file or folder "${path}" in the worker`, {
    hint: 'What lives in memory (/tmp, the home folder) is not seen here: read it with a command.',
  })
}

function notRegular(path: string): AppError {
  return new AppError('validation_failed', `path: ${path} is neither a regular file nor a folder`, {
    errors: [{ path: 'path', message: 'is neither a regular file nor a folder' }],
  })
}

function conflict(message: string): AppError {
  return new AppError('conflict', message)
}
