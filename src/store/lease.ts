import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { ConfigError } from '../errors.ts'

const BUSY_TIMEOUT_MS = 500

/**
 * Says that one process owns a store: a file that SQLite keeps locked. The kernel takes the lock away
 * with the process, however it dies, so there is nothing to expire and nothing to clean up.
 */
export class Lease {
  readonly #file: DatabaseSync

  private constructor(file: DatabaseSync) {
    this.#file = file
  }

  /** Throws a `ConfigError` where another process has the store. */
  static take(folder: string): Lease {
    const file = new DatabaseSync(join(folder, 'lease.sqlite'), { timeout: BUSY_TIMEOUT_MS })
    try {
      file.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
      return new Lease(file)
    } catch (error) {
      file.close()
      if (!/locked|busy/i.test(String(error))) throw error
      throw new ConfigError(`CO_DATA_DIR=${folder}: another instance of this service works with it`)
    }
  }

  release(): void {
    this.#file.close()
  }
}
