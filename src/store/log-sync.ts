import { type FileHandle, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { syncFolder } from '../sync-folder.ts'
import { diskFault } from './faults.ts'

/**
 * Brings what a database has committed to its write-ahead log to the disk, off the event loop. Whoever
 * waits at once shares one sync; one that is asked for while another is under way begins behind it.
 */
export class LogSync {
  readonly #path: string
  readonly #checkpoint: () => void
  #file: FileHandle | undefined
  /** Something was committed since the last sync began. */
  #dirty = false
  /** The disk refused the last sync, and may have forgotten what it was to take. */
  #refused = false
  #running: Promise<void> | undefined
  #next: Promise<void> | undefined

  /** `checkpoint` has SQLite take the log over into the database, and sync that. */
  constructor(path: string, checkpoint: () => void) {
    this.#path = path
    this.#checkpoint = checkpoint
  }

  /** Something was committed. */
  wrote(): void {
    this.#dirty = true
  }

  /**
   * Resolves once all that was committed before is on the disk; rejects with `disk_low` or
   * `store_unavailable` where that did not take it.
   */
  done(): Promise<void> {
    if (this.#next !== undefined) return this.#next
    if (this.#running === undefined) return this.#dirty ? this.#begin() : Promise.resolve()
    if (!this.#dirty) return this.#running
    const next = this.#running
      .catch(() => {})
      .then(() => {
        this.#next = undefined
        return this.#begin()
      })
    this.#next = next
    return next
  }

  /** Ends, once what is under way has ended. */
  async close(): Promise<void> {
    await this.#next?.catch(() => {})
    await this.#running?.catch(() => {})
    await this.#file?.close()
    this.#file = undefined
  }

  #begin(): Promise<void> {
    const running = this.#sync().finally(() => {
      this.#running = undefined
    })
    this.#running = running
    return running
  }

  async #sync(): Promise<void> {
    this.#dirty = false
    try {
      // A kernel that failed to write a page takes it for written: to sync it again would say nothing.
      if (this.#refused) this.#checkpoint()
      this.#file ??= await openLasting(this.#path)
      await this.#file.datasync()
      this.#refused = false
    } catch (error) {
      this.#dirty = true
      this.#refused = true
      throw diskFault(error)
    }
  }
}

/** Opens a file whose name was made by others, and makes that last beyond a loss of power. */
async function openLasting(path: string): Promise<FileHandle> {
  const file = await open(path, 'r')
  await syncFolder(dirname(path))
  return file
}
