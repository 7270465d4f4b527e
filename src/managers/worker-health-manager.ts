import { ANYONE, type Caller } from '../domain/caller.ts'
import { timestamp } from '../domain/common.ts'
import { type DiskUse, RefreshWorker, type WorkerHealth, type WorkerStats } from '../domain/worker.ts'
import type { ContainerState, Engine } from '../engine/engine.ts'
import { AppError, messageOf } from '../errors.ts'
import { healthReasons } from '../policy/worker-health.ts'
import { WORKSPACE_FOLDER } from '../policy/worker-policy.ts'
import type { Log } from './log.ts'
import { Rounds } from './rounds.ts'
import type { StatsManager } from './stats-manager.ts'
import { BUSYBOX } from './toolbox-programs.ts'
import { runBriefly } from './worker-command.ts'
import type { WorkerLife } from './worker-life.ts'
import type { WorkerManager } from './worker-manager.ts'

const WATCH_INTERVAL_MS = 60_000
/** What a refresh did not cure is not refreshed again at once. */
const REFRESH_PAUSE_MS = 60 * 60_000
const DISK_DEADLINE_MS = 10_000
const HOUR_MS = 3_600_000

export interface WorkerHealthOptions {
  engine: Engine
  workers: WorkerManager
  stats: StatsManager
  log: Log
}

/** How workers are: age, disk, memory and the engine's health checks; refreshes those that are to be. */
export class WorkerHealthManager {
  readonly #options: WorkerHealthOptions
  readonly #rounds: Rounds
  /** When a worker was last tried to be refreshed. */
  readonly #tried = new WeakMap<WorkerLife, number>()

  constructor(options: WorkerHealthOptions) {
    this.#options = options
    this.#rounds = new Rounds({
      name: 'worker_health',
      everyMs: WATCH_INTERVAL_MS,
      log: options.log,
      work: () => this.refreshDue(),
    })
  }

  async health(workerId: string, caller: Caller = ANYONE): Promise<WorkerHealth> {
    const { engine, stats, workers } = this.#options
    const { status, container_id } = await workers.get(workerId, caller)
    const state = container_id === null ? undefined : await engine.containers.inspect(container_id)
    const runs = state?.status === 'running' && status === 'running'
    const [disk, use] = await Promise.all([
      runs ? this.#disk(state.id) : null,
      runs ? stats.one(state.id).catch(() => undefined) : undefined,
    ])
    const life = await workers.life(workerId, caller).catch(() => undefined)
    const condition = {
      status,
      ageHours: state === undefined ? null : ageHours(state),
      diskPercent: disk?.percent ?? null,
      memoryPercent: use?.memory_percent ?? null,
      failingStreak: state?.health?.failingStreak ?? null,
    }
    const policy = life?.request.refresh_policy
    const reasons =
      policy === undefined
        ? [{ code: 'not_running' as const, message: `It is ${status}` }]
        : healthReasons(condition, policy)
    return {
      worker_id: workerId,
      status,
      healthy: reasons.length === 0,
      reasons,
      age_hours: condition.ageHours,
      disk_percent: condition.diskPercent,
      memory_percent: condition.memoryPercent,
      healthcheck:
        state?.health === undefined
          ? null
          : {
              status: state.health.status,
              failing_streak: state.health.failingStreak,
              checks: state.health.checks.map(({ at, exitCode, output }) => ({
                at: timestamp(at),
                exit_code: exitCode,
                output,
              })),
            },
      checked_at: timestamp(),
    }
  }

  /** What a worker's container uses, its age and its workspace's disk. */
  async stats(workerId: string, caller: Caller = ANYONE): Promise<WorkerStats> {
    const { engine, stats, workers } = this.#options
    const life = await workers.life(workerId, caller)
    const { containerId } = life.entry
    if (containerId === null) throw new AppError('conflict', `Worker "${workerId}" has no container`)
    const [use, state] = await Promise.all([stats.one(containerId), engine.containers.inspect(containerId)])
    const disk = state?.status === 'running' ? await this.#disk(state.id) : null
    return { ...use, age_hours: state === undefined ? 0 : ageHours(state), disk }
  }

  /** Looks after workers whose policy says so, from now on. */
  begin(): void {
    this.#rounds.begin()
  }

  end(): void {
    this.#rounds.end()
  }

  /** Refreshes the workers that are not healthy, want it so, and run no command. */
  async refreshDue(): Promise<void> {
    const due = this.#options.workers.lives
      .running()
      .filter(({ request }) => request.refresh_policy.action === 'refresh')
    await Promise.all(due.map((life) => this.#refreshIfDue(life)))
  }

  async #refreshIfDue(life: WorkerLife): Promise<void> {
    const { log, workers } = this.#options
    const { refreshed_at, worker_id } = life.entry.view
    const last = Math.max(this.#tried.get(life) ?? 0, refreshed_at === null ? 0 : Date.parse(refreshed_at))
    if (Date.now() - last < REFRESH_PAUSE_MS || life.commands.busy) return
    try {
      const { healthy, reasons } = await this.health(worker_id)
      if (healthy) return
      log.warn(
        { event: 'worker.refresh_due', worker_id, reasons: reasons.map(({ code }) => code) },
        'worker is refreshed',
      )
      // Also where it fails: each try stops the worker.
      this.#tried.set(life, Date.now())
      await workers.refresh(worker_id, RefreshWorker.parse({ when_busy: 'refuse' }))
    } catch (error) {
      log.warn({ event: 'worker.refresh_put_off', worker_id, error: messageOf(error) }, 'a worker was not refreshed')
    }
  }

  /** Of the workspace's file system, as seen from inside; null where it cannot be asked. */
  async #disk(containerId: string): Promise<DiskUse | null> {
    try {
      const { exitCode, stdout } = await runBriefly(
        this.#options,
        containerId,
        { command: [BUSYBOX, 'df', '-P', '-k', WORKSPACE_FOLDER] },
        DISK_DEADLINE_MS,
      )
      return exitCode === 0 ? parseDiskUse(stdout) : null
    } catch {
      return null
    }
  }
}

/** Of POSIX df's answer: total, used and available in KiB, and percent as df rounds it. */
function parseDiskUse(text: string): DiskUse | null {
  const match = /\s(\d+)\s+(\d+)\s+(\d+)\s+(\d+)%/.exec(text.split('\n').slice(1).join(' '))
  if (match === null) return null
  const [total = 0, used = 0, available = 0, percent = 0] = match.slice(1).map(Number)
  const mb = (kib: number) => Math.round((kib / 1024) * 100) / 100
  return { total_mb: mb(total), used_mb: mb(used), available_mb: mb(available), percent }
}

/** Of a container since it was made, to a thousandth. */
function ageHours({ createdAt }: ContainerState): number {
  return Math.round(((Date.now() - createdAt.getTime()) / HOUR_MS) * 100_000) / 100_000
}
