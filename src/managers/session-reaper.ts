import type { SessionRow, Sessions } from '../store/sessions.ts'
import type { Log } from './log.ts'
import type { RelicManager } from './relic-manager.ts'
import { Rounds } from './rounds.ts'
import type { SessionManager } from './session-manager.ts'
import type { ToolManager } from './tool-manager.ts'
import type { WorkerLives } from './worker-lives.ts'

export interface SessionReaperOptions {
  store: { sessions: Sessions }
  sessions: SessionManager
  tools: ToolManager
  relics: RelicManager
  workers: WorkerLives
  log: Log
}

const INTERVAL_MS = 5_000
/** Sessions that are cleaned up at once. */
const AT_ONCE = 8

/** Ends the sessions whose time is over, or that nobody uses any more. */
export class SessionReaper {
  readonly #options: SessionReaperOptions
  readonly #rounds: Rounds

  constructor(options: SessionReaperOptions) {
    this.#options = options
    this.#rounds = new Rounds({ name: 'reaper', everyMs: INTERVAL_MS, log: options.log, work: () => this.reap() })
  }

  /** Looks regularly from now on. */
  begin(): void {
    this.#rounds.begin()
  }

  end(): void {
    this.#rounds.end()
  }

  /** One look at all sessions that have an end, as if so many milliseconds later. */
  async reap(aheadMs = 0): Promise<void> {
    const rows = await this.#options.store.sessions.limited()
    for (let from = 0; from < rows.length; from += AT_ONCE) {
      await Promise.all(rows.slice(from, from + AT_ONCE).map(({ session_id }) => this.#reapOne(session_id, aheadMs)))
    }
  }

  async #reapOne(session_id: string, aheadMs: number): Promise<void> {
    const { store, sessions, log } = this.#options
    const isUsed = this.#isUsed(session_id)
    // What runs is activity for as long as it does.
    if (isUsed) await store.sessions.noteActivity(session_id)
    // As it is now: it may have been renewed while others were cleaned up.
    const row = await store.sessions.get(session_id)
    if (row === undefined) return
    const reason = endOf(row, Date.now() + aheadMs, isUsed ? 0 : store.sessions.idleMs(row) + aheadMs)
    if (reason === undefined) return
    log.info({ event: 'session.expired', session_id, reason }, 'session expired')
    const { errors } = await sessions.cleanup(session_id, { force: false, dryRun: false, reason })
    // What could not be removed keeps its session, and the next look tries again.
    if (errors.length > 0) log.warn({ event: 'session.not_ended', session_id, errors }, 'session stays')
  }

  #isUsed(sessionId: string): boolean {
    const { tools, relics, workers } = this.#options
    return tools.activeIn(sessionId).length > 0 || relics.isUsedIn(sessionId) || workers.isUsedIn(sessionId)
  }
}

/** Why a session is over; undefined while it is not. */
function endOf(row: SessionRow, now: number, idleMs: number): 'ttl' | 'idle' | undefined {
  if (row.expires_at !== null && Date.parse(row.expires_at) <= now) return 'ttl'
  return row.idle_timeout_seconds !== null && idleMs >= row.idle_timeout_seconds * 1000 ? 'idle' : undefined
}
