import { join } from 'node:path'
import { ConfigError } from '../errors.ts'
import { FileLock } from './file-lock.ts'

const WAIT_MS = 500

/** Says that one process owns a store: a file beside it that the owner keeps locked. */
export class Lease {
  readonly #lock: FileLock

  private constructor(lock: FileLock) {
    this.#lock = lock
  }

  /** Throws a `ConfigError` where another process has the store. */
  static take(folder: string): Lease {
    const lock = FileLock.take(join(folder, 'lease.sqlite'), WAIT_MS)
    if (lock === undefined)
      throw new ConfigError(`CO_DATA_DIR=${folder}: another instance of this service works with it`)
    return new Lease(lock)
  }

  release(): void {
    this.#lock.release()
  }
}
