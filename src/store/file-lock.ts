import { DatabaseSync } from 'node:sqlite'

/**
 * An exclusive lock of the kernel on a file, which SQLite takes and keeps: the kernel gives it back when
 * the process ends, however it ends, so there is nothing to expire and nothing to clean up.
 */
export class FileLock {
  readonly #file: DatabaseSync

  private constructor(file: DatabaseSync) {
    this.#file = file
  }

  /** Takes the lock, making its file where it is missing; undefined where another has it for all of `waitMs`. */
  static take(path: string, waitMs: number): FileLock | undefined {
    const file = new DatabaseSync(path, { timeout: waitMs })
    try {
      file.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
      return new FileLock(file)
    } catch (error) {
      file.close()
      if (!/locked|busy/i.test(String(error))) throw error
      return undefined
    }
  }

  release(): void {
    this.#file.close()
  }
}
