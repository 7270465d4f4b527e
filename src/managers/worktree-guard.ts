/**
 * Watches the folder that a worktree shares with its main repository. Git has to write locks there, so
 * it cannot be read-only inside; but a file `commondir` in it would send git of the host to a folder
 * of the agent's making, whose configuration it would execute. No mount can keep a file from being
 * made, so one that appears is removed at once, and its maker ended.
 */
import { type FSWatcher, watch } from 'node:fs'
import { lstat, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf } from '../errors.ts'
import type { Log } from './log.ts'

const FORBIDDEN = 'commondir'
/** Not every file system tells of changes. */
const LOOK_INTERVAL_MS = 1_000

export class WorktreeGuard {
  readonly #path: string
  readonly #log: Log
  readonly #onBreach: () => void
  #watcher: FSWatcher | undefined
  #timer: NodeJS.Timeout | undefined

  /** `repository` is the shared folder; `onBreach` is called once, after the file is gone. */
  constructor(repository: string, log: Log, onBreach: () => void) {
    this.#path = join(repository, FORBIDDEN)
    this.#log = log
    this.#onBreach = onBreach
    try {
      this.#watcher = watch(repository, { persistent: false }, (_event, name) => {
        if (name === FORBIDDEN) void this.#look()
      }).on('error', () => {})
    } catch (error) {
      log.warn({ event: 'worktree.not_watched', error: messageOf(error) }, 'a repository is looked at, not watched')
    }
    this.#timer = setInterval(() => void this.#look(), LOOK_INTERVAL_MS).unref()
    void this.#look()
  }

  close(): void {
    this.#watcher?.close()
    this.#watcher = undefined
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  async #look(): Promise<void> {
    const found = await lstat(this.#path).catch(() => undefined)
    if (found === undefined || this.#timer === undefined) return
    await rm(this.#path, { recursive: true, force: true }).catch((error: unknown) => {
      this.#log.error(
        { event: 'worktree.breach_stays', path: this.#path, error: messageOf(error) },
        'a file that would take over git of the host could not be removed: remove it before running git there',
      )
    })
    if (this.#timer === undefined) return
    this.close()
    this.#onBreach()
  }
}
