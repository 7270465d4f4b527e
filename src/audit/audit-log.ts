import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { timestamp } from '../domain/common.ts'
import { AppError, ConfigError, messageOf } from '../errors.ts'
import { syncFolder } from '../sync-folder.ts'
import { auditFiles, fileName, firstSeqOf, walkFile } from './audit-file.ts'
import { type AuditEntry, bounded, encodeLine, GENESIS, type Link, type MendedEntry } from './audit-line.ts'

const MAX_FILE_BYTES = 64 * 1024 * 1024
const SYNC_MS = 1_000
const TELL_HEAD_MS = 3_600_000
const RETRY_AFTER_SECONDS = 5

interface Log {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export interface AuditLogOptions {
  log: Log
  maxFileBytes?: number
  now?: () => Date
  /** Writes some of the bytes behind the file's end, and answers how many. */
  write?: (file: FileHandle, bytes: Buffer) => Promise<number>
}

interface Waiting {
  fields: AuditEntry
  at: string
  resolve: () => void
  reject: (error: AppError) => void
}

/** What was found where the log goes on. */
interface Found {
  link: Link
  /** Undefined: a file is begun with the next line. */
  name: string | undefined
  bytes: number
  mended: MendedEntry[]
}

/**
 * The append-only log of who asked for what and what was decided: files of lines, each of which bears
 * the hash of the one before. One process at a time writes it (the owner of the store beside it).
 * Nothing in it is ever removed.
 */
export class AuditLog {
  readonly #folder: string
  readonly #log: Log
  readonly #maxFileBytes: number
  readonly #now: () => Date
  readonly #writeSome: (file: FileHandle, bytes: Buffer) => Promise<number>
  #waiting: Waiting[] = []
  #writing: Promise<void> | undefined
  /** The last line that is written. */
  #link: Link
  #name: string | undefined
  #file: FileHandle | undefined
  /** Of the file, up to the end of the last line. */
  #bytes: number
  /** What is to be told with the next line. */
  #mended: MendedEntry[]
  /** A failed write left something behind the last line that could not be cut off yet. */
  #torn = false
  #failing = false
  #closed = false
  #syncTimer: NodeJS.Timeout | undefined
  #headToldAt = performance.now()

  private constructor(folder: string, found: Found, options: AuditLogOptions) {
    this.#folder = folder
    this.#link = found.link
    this.#name = found.name
    this.#bytes = found.bytes
    this.#mended = found.mended
    this.#log = options.log
    this.#maxFileBytes = options.maxFileBytes ?? MAX_FILE_BYTES
    this.#now = options.now ?? (() => new Date())
    this.#writeSome = options.write ?? (async (file, bytes) => (await file.write(bytes)).bytesWritten)
  }

  /**
   * Opens the log in a folder, which is made where it is missing, behind its last line. Half a line, as a
   * crash leaves it, is cut off; behind lines that are not as they were written a new file is begun. A
   * line tells of either. A `ConfigError` where the folder cannot be read or made.
   */
  static async open(folder: string, options: AuditLogOptions): Promise<AuditLog> {
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 })
      const found = await findEnd(folder)
      for (const { mended } of found.mended)
        options.log.error({ event: 'audit.mended', folder, ...mended }, 'the audit log did not end with a whole line')
      const audit = new AuditLog(folder, found, options)
      // Where the disk is full, the next line that is written tells of it.
      if (found.mended.length > 0) await audit.#write([]).catch((error: unknown) => audit.#noteFailure(error))
      return audit
    } catch (error) {
      throw new ConfigError(`the audit log in ${folder} cannot be opened: ${messageOf(error)}`)
    }
  }

  /** Number and hash of the last line. Whoever keeps it elsewhere can tell later whether the end was cut off. */
  get head(): Link {
    return this.#link
  }

  /**
   * Adds a line; resolves once the kernel has it, so that no end of this process loses it. 503
   * `audit_unavailable` where it cannot be written: then it is not in the log, in no part, and what it
   * would have told is not to be done. Lines that are added at once share one write, and keep their order.
   */
  append(entry: AuditEntry): Promise<void> {
    if (this.#closed) return Promise.reject(unavailable(new Error('it is closed')))
    return new Promise((resolve, reject) => {
      this.#waiting.push({ fields: bounded(entry), at: timestamp(this.#now()), resolve, reject })
      this.#writing ??= this.#writeWaiting()
    })
  }

  /** Writes what waits, syncs it to disk and ends. May be repeated. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#writing
    clearTimeout(this.#syncTimer)
    await this.#sync()
    await this.#file?.close()
    this.#tellHead()
  }

  async #writeWaiting(): Promise<void> {
    // Whoever appends in the same turn is in the same write.
    await Promise.resolve()
    while (this.#waiting.length > 0) {
      const batch = this.#waiting
      this.#waiting = []
      try {
        await this.#write(batch)
        this.#noteSuccess()
        for (const { resolve } of batch) resolve()
      } catch (error) {
        this.#noteFailure(error)
        for (const { reject } of batch) reject(unavailable(error))
      }
    }
    this.#writing = undefined
  }

  async #write(batch: readonly Waiting[]): Promise<void> {
    const file = await this.#fileForNextLine()
    let link = this.#link
    const lines: string[] = []
    const add = (fields: AuditEntry | MendedEntry, at: string) => {
      const line = encodeLine(fields, at, link)
      lines.push(line.text)
      link = line.link
    }
    for (const fields of this.#mended) add(fields, timestamp(this.#now()))
    for (const { fields, at } of batch) add(fields, at)
    const bytes = Buffer.from(lines.join(''), 'latin1')
    try {
      // A disk that is filling up takes a part.
      for (let done = 0; done < bytes.length; ) done += await this.#writeSome(file, bytes.subarray(done))
    } catch (error) {
      this.#torn = true
      await this.#mendTorn(file).catch(() => {})
      throw error
    }
    this.#link = link
    this.#bytes += bytes.length
    this.#mended = []
    this.#syncTimer ??= setTimeout(() => void this.#sync(), SYNC_MS).unref()
  }

  /** The open file that takes the next line, without anything behind its last one. */
  async #fileForNextLine(): Promise<FileHandle> {
    if (this.#bytes >= this.#maxFileBytes) await this.#endFile()
    if (this.#name === undefined) {
      const name = fileName(this.#link.seq + 1)
      this.#file = await open(join(this.#folder, name), constants.O_CREAT | constants.O_EXCL | APPEND, 0o600)
      this.#name = name
      this.#bytes = 0
      this.#torn = false
      await syncFolder(this.#folder)
    }
    this.#file ??= await open(join(this.#folder, this.#name), APPEND)
    if (this.#torn) await this.#mendTorn(this.#file)
    return this.#file
  }

  async #mendTorn(file: FileHandle): Promise<void> {
    await file.truncate(this.#bytes)
    this.#torn = false
  }

  async #endFile(): Promise<void> {
    if (this.#torn && this.#file !== undefined) await this.#mendTorn(this.#file)
    await this.#sync()
    await this.#file?.close()
    this.#file = undefined
    this.#name = undefined
    this.#tellHead()
  }

  async #sync(): Promise<void> {
    this.#syncTimer = undefined
    try {
      await this.#file?.datasync()
    } catch (error) {
      this.#log.error(
        { event: 'audit.sync_failed', err: error },
        'the disk did not take the last lines of the audit log',
      )
    }
    if (performance.now() - this.#headToldAt > TELL_HEAD_MS) this.#tellHead()
  }

  #tellHead(): void {
    this.#headToldAt = performance.now()
    this.#log.info({ event: 'audit.head', ...this.#link }, 'head of the audit log')
  }

  #noteFailure(error: unknown): void {
    if (!this.#failing)
      this.#log.error({ event: 'audit.failed', err: error }, 'the audit log cannot be written: nothing is changed')
    this.#failing = true
  }

  #noteSuccess(): void {
    if (this.#failing) this.#log.info({ event: 'audit.recovered' }, 'the audit log can be written again')
    this.#failing = false
  }
}

const APPEND = constants.O_WRONLY | constants.O_APPEND

function unavailable(cause: unknown): AppError {
  return new AppError('audit_unavailable', `The audit log cannot be written: ${reasonOf(cause)}`, {
    cause,
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    hint: 'Nothing was changed. Have the operator make room where CO_DATA_DIR is.',
  })
}

/** The error's code: its message has a path of the service's host. */
function reasonOf(cause: unknown): string {
  return (cause as NodeJS.ErrnoException).code ?? messageOf(cause)
}

/** From the last file back to one with a line in it. */
async function findEnd(folder: string): Promise<Found> {
  const names = await auditFiles(folder)
  const found: Found = { link: GENESIS, name: undefined, bytes: 0, mended: [] }
  const last = names.at(-1)
  if (last === undefined) return found
  const walk = await walkFile(join(folder, last), undefined)
  found.link = walk.last ?? (await lastLink(folder, names.slice(0, -1)))
  if (walk.broken !== undefined) {
    found.mended.push({ mended: { file: last, unreadable_from_line: walk.broken.line } })
    // The numbers of the lines that cannot be read are not given again.
    found.link = { ...found.link, seq: Math.max(found.link.seq, firstSeqOf(last) + walk.lineEnds) }
    return found
  }
  found.bytes = walk.bytes - walk.trailingBytes
  if (walk.trailingBytes > 0) {
    await truncate(join(folder, last), found.bytes)
    found.mended.push({ mended: { file: last, cut_bytes: walk.trailingBytes } })
  }
  if (walk.last !== undefined || firstSeqOf(last) === found.link.seq + 1) found.name = last
  return found
}

async function lastLink(folder: string, names: readonly string[]): Promise<Link> {
  for (const name of names.toReversed()) {
    const { last } = await walkFile(join(folder, name), undefined)
    if (last !== undefined) return last
  }
  return GENESIS
}
