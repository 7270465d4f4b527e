import { randomUUID } from 'node:crypto'
import { posix } from 'node:path'
import { ANYONE, type Caller, type Making } from '../domain/caller.ts'
import { type Page, timestamp } from '../domain/common.ts'
import type { Exec, ExecRequest, ExecStatus } from '../domain/exec.ts'
import type { Engine } from '../engine/engine.ts'
import { AppError, isEngineFault, messageOf } from '../errors.ts'
import { failpoint } from '../failpoints.ts'
import { isBeneath } from '../policy/volumes.ts'
import { requireUnreserved } from '../policy/worker-environment.ts'
import type { Entry } from '../store/records.ts'
import type { SpoolWriter } from '../store/spool-writer.ts'
import type { Store } from '../store/store.ts'
import { forgetCommand } from './exec-records.ts'
import type { ImageUsers } from './image-users.ts'
import type { Log } from './log.ts'
import { newId } from './names.ts'
import { failureOf } from './outcome.ts'
import { OutputCapture } from './output-capture.ts'
import { requireRunning, WorkerCommand } from './worker-command.ts'
import type { WorkerLife } from './worker-life.ts'
import type { WorkerManager } from './worker-manager.ts'

export interface ExecManagerOptions {
  engine: Engine
  store: Store
  workers: WorkerManager
  imageUsers: ImageUsers
  log: Log
}

type ExecEntry = Entry<ExecRequest, Exec>

export interface StartedExec {
  exec: Exec
  /** Resolves with its end; never rejects. */
  done: Promise<Exec>
}

/** A command that runs. */
interface Running {
  entry: ExecEntry
  /** Resolves with its end; never rejects. */
  done: Promise<Exec>
  /** Ends it and all that it started. */
  end(reason: 'timeout' | 'cancelled'): Promise<void>
}

/** Exit code of the program that a command is run by, before it becomes the command. */
const NOT_ENTERED = 125
/** Ended commands that a worker keeps, with their output. */
const KEPT = 100
const KERNEL_FOLDERS = ['/proc', '/sys', '/dev']

/** Commands in workers: starts, tells, streams and ends them. */
export class ExecManager {
  readonly #options: ExecManagerOptions
  readonly #running = new Map<string, Running>()
  readonly #detach = new AbortController()

  constructor(options: ExecManagerOptions) {
    this.#options = options
  }

  /** Starts a command; resolves once it runs. */
  async start(
    workerId: string,
    request: ExecRequest,
    { id = newId('exec'), caller = ANYONE }: Making = {},
  ): Promise<StartedExec> {
    const life = await this.#options.workers.life(workerId, caller)
    requireFolder(request.working_dir)
    requireUnreserved(request.environment)
    const leave = await life.commands.enter()
    try {
      requireRunning(workerId, life.entry.view.status)
      const user = await this.#user(life, request.user)
      const running = await this.#begin(life, { id, request, user }, leave)
      return { exec: running.entry.view, done: running.done }
    } catch (error) {
      leave()
      throw error
    }
  }

  /** A command that was started before, to be waited for; undefined where there is none. */
  async started(id: string): Promise<StartedExec | undefined> {
    const running = this.#running.get(id)
    if (running !== undefined) return { exec: running.entry.view, done: running.done }
    const view = (await this.#options.store.execs.get(id))?.view
    return view && { exec: view, done: Promise.resolve(view) }
  }

  async get(workerId: string, execId: string, caller: Caller = ANYONE): Promise<Exec> {
    return (await this.#entry(workerId, execId, caller)).view
  }

  /** Newest first. */
  async list(
    workerId: string,
    query: { status?: string | undefined; limit?: number | undefined; cursor?: string | undefined },
    caller: Caller = ANYONE,
  ): Promise<Page<Exec>> {
    return this.#options.store.execs.list({ ...query, name: await this.#options.workers.recordId(workerId, caller) })
  }

  /** Ends a command with all that it started; one that has ended stays as it is. */
  async cancel(workerId: string, execId: string, caller: Caller = ANYONE): Promise<Exec> {
    const { id, view } = await this.#entry(workerId, execId, caller)
    const running = this.#running.get(id)
    if (running === undefined) return view
    await running.end('cancelled')
    return running.done
  }

  /** At boot: commands of an earlier process are ended, since nobody holds their output and their time. */
  async recover(): Promise<void> {
    const { store, engine, log } = this.#options
    for (const entry of await store.execs.live()) {
      const { containerId, request } = entry
      if (containerId !== null) {
        await WorkerCommand.end({ engine, log }, containerId, entry.id, request?.user).catch((error: unknown) => {
          log.warn({ event: 'exec.kill_failed', exec_id: entry.id, error: messageOf(error) }, 'a command may go on')
        })
      }
      const failure = { code: 'lost' as const, message: 'The service ended while the command ran', hint: null }
      const view: Exec = { ...entry.view, status: 'failed', failure, completed_at: timestamp() }
      await store.execs.update({ ...entry, status: 'failed', live: false, request: null, view })
    }
  }

  /** Leaves commands running; the next start of the service ends them. */
  detach(): void {
    this.#detach.abort(new Error('The service is stopping'))
  }

  get count(): number {
    return this.#running.size
  }

  async #begin(
    life: WorkerLife,
    { id, request, user }: { id: string; request: ExecRequest; user: string | undefined },
    leave: () => void,
  ): Promise<Running> {
    const { engine, log, store } = this.#options
    const { containerId } = life.entry
    if (containerId === null) throw new AppError('conflict', `Worker "${life.entry.name}" has no container`)
    const view = newExec(id, life.entry.name, request)
    const kept: ExecRequest = { ...request, stdin: undefined, environment: {} }
    const entry: ExecEntry = {
      id,
      sessionId: life.entry.sessionId,
      owner: life.entry.owner,
      name: life.entry.id,
      status: view.status,
      live: true,
      containerId,
      nonce: randomUUID(),
      request: user === undefined ? kept : { ...kept, user },
      view,
    }
    await store.sessions.noteActivity(entry.sessionId)
    await store.execs.insert(entry)
    failpoint('exec.recorded')
    const detach = this.#detach.signal
    let command: WorkerCommand
    let spool: SpoolWriter
    try {
      spool = await store.spools.open(id)
      const { environment, stdin, working_dir: workingDir } = request
      command = await WorkerCommand.start({ engine, log }, containerId, {
        id,
        command: request.command,
        workingDir,
        user,
        environment,
        stdin,
        detach,
      })
    } catch (error) {
      await forgetCommand(store, id)
      // A container that ends in this moment cuts the connection, as an engine that goes away does.
      const state = life.isRemoved ? undefined : await engine.containers.inspect(containerId)
      if (state?.status === 'running') throw error
      throw new AppError('conflict', `Worker "${life.entry.name}" ended while the command was started`, {
        cause: error,
      })
    }
    failpoint('exec.started')
    spool.state({ status: 'running', at: view.started_at })
    let reason: 'timeout' | 'cancelled' | undefined
    const end = async (why: 'timeout' | 'cancelled') => {
      reason ??= why
      for (;;) {
        try {
          return await command.kill()
        } catch (error) {
          // A command does not outlive its time because its engine was away when that was over.
          if (!isEngineFault(error, 'unavailable', 'deadline')) throw error
          await engine.availability.restored(detach)
        }
      }
    }
    const timer = setTimeout(() => void end('timeout').catch(() => {}), request.timeout_seconds * 1000)
    const done = this.#follow(entry, command, spool, () => reason).finally(() => {
      clearTimeout(timer)
      this.#running.delete(id)
      leave()
    })
    const running = { entry, done, end }
    this.#running.set(id, running)
    return running
  }

  /** Keeps what a command writes, and records its end. */
  async #follow(
    entry: ExecEntry,
    command: WorkerCommand,
    spool: SpoolWriter,
    reasonOf: () => 'timeout' | 'cancelled' | undefined,
  ): Promise<Exec> {
    const { log, store } = this.#options
    const began = performance.now()
    const capture = new OutputCapture()
    let exitCode: number | null = null
    let failure: Exec['failure'] = null
    try {
      exitCode = await command.run(async (chunk) => {
        capture.add(chunk)
        await spool.append(chunk.stream, chunk.bytes)
      })
    } catch (error) {
      failure = { code: 'engine_error', message: messageOf(error), hint: null }
    }
    failpoint('exec.ended')
    if (this.#detach.signal.aborted) return entry.view
    const { status, failure: cause } = outcomeOf(exitCode, reasonOf(), failure)
    const { stdout, stderr } = capture
    Object.assign(entry.view, {
      status,
      exit_code: exitCode,
      failure: cause,
      timed_out: status === 'timeout',
      stdout: stdout.text(),
      stderr: stderr.text(),
      stdout_bytes: stdout.bytes,
      stderr_bytes: stderr.bytes,
      stdout_truncated: stdout.truncated,
      stderr_truncated: stderr.truncated,
      completed_at: timestamp(),
      duration_ms: Math.round(performance.now() - began),
    } satisfies Partial<Exec>)
    Object.assign(entry, { status, live: false, request: null })
    try {
      await store.execs.update(entry)
      await store.sessions.noteActivity(entry.sessionId)
      spool.state({ status, at: timestamp() })
      await store.spools.seal(entry.id)
      await this.#prune(entry.name)
    } catch (error) {
      log.error({ event: 'exec.not_recorded', exec_id: entry.id, error: messageOf(error) }, 'an end was not recorded')
    }
    const { exec_id, worker_id, duration_ms } = entry.view
    log.info(
      { event: 'exec.finished', exec_id, worker_id, outcome: status, exit_code: exitCode, duration_ms },
      'exec finished',
    )
    return entry.view
  }

  /** Only the latest of a worker's ended commands are kept. */
  async #prune(recordId: string): Promise<void> {
    const { store } = this.#options
    const newest = await store.execs.list({ name: recordId, limit: KEPT })
    if (newest.next_cursor === null) return
    const older = await store.execs.list({ name: recordId, limit: KEPT, cursor: newest.next_cursor })
    for (const { exec_id, status } of older.items) if (status !== 'running') await forgetCommand(store, exec_id)
  }

  /** Numbers of the user that a command is to run as; a root that the worker itself is not is denied. */
  async #user(life: WorkerLife, user: string | undefined): Promise<string | undefined> {
    const { view } = life.entry
    if (user === undefined) return undefined
    const { engine, imageUsers } = this.#options
    const image = view.image_id === null ? undefined : await engine.images.inspect(view.image_id)
    if (image === undefined) {
      if (user === view.user) return user
      throw new AppError('conflict', `The image of worker "${view.worker_id}" is gone: its users are not known`)
    }
    const { uid, gid } = await imageUsers.resolve(image, user)
    if (uid === 0 && view.user?.split(':')[0] !== '0') {
      throw new AppError('policy_denied', 'A command does not run as root', {
        rule: 'user',
        hint: 'Leave "user" out, or name another.',
      })
    }
    return `${uid}:${gid}`
  }

  async #entry(workerId: string, execId: string, caller: Caller): Promise<ExecEntry> {
    const recordId = await this.#options.workers.recordId(workerId, caller)
    const entry = this.#running.get(execId)?.entry ?? (await this.#options.store.execs.get(execId))
    if (entry === undefined || entry.name !== recordId)
      throw new AppError('not_found', `Worker "${workerId}" has no command "${execId}"`)
    return entry
  }
}

/** A working directory under /proc can be a way out of a container (CVE-2024-21626). */
function requireFolder(path: string): void {
  // POSIX leaves it to the system what two slashes at the beginning mean, and so does `normalize`.
  const clean = posix.normalize(path).replace(/^\/+/, '/')
  const folder = KERNEL_FOLDERS.find((kernel) => isBeneath(clean, kernel))
  if (folder === undefined) return
  const message = `a command does not run in ${folder}`
  throw new AppError('validation_failed', `working_dir: ${message}`, { errors: [{ path: 'working_dir', message }] })
}

function outcomeOf(
  exitCode: number | null,
  reason: 'timeout' | 'cancelled' | undefined,
  failure: Exec['failure'],
): { status: ExecStatus; failure: Exec['failure'] } {
  if (reason === 'timeout') {
    const message = 'The command did not end in time; it and all that it started were killed'
    return { status: 'timeout', failure: { code: 'timeout', message, hint: 'Raise timeout_seconds.' } }
  }
  if (reason === 'cancelled')
    return { status: 'cancelled', failure: { code: 'cancelled', message: 'The command was cancelled', hint: null } }
  if (failure !== null) return { status: 'failed', failure }
  if (exitCode === null) {
    const message = 'The container of the worker went away while the command ran'
    return { status: 'failed', failure: { code: 'lost', message, hint: null } }
  }
  if (exitCode === 0) return { status: 'completed', failure: null }
  if (exitCode === NOT_ENTERED) {
    const message = 'Exit code 125: working_dir could not be entered, or the command could not be set up'
    return { status: 'failed', failure: { code: 'start_failed', message, hint: 'stderr tells which; check both.' } }
  }
  return { status: 'failed', failure: failureOf({ exitCode, oomKilled: false, error: '' }) }
}

function newExec(id: string, workerId: string, request: ExecRequest): Exec {
  return {
    exec_id: id,
    worker_id: workerId,
    command: request.command,
    status: 'running',
    exit_code: null,
    failure: null,
    timed_out: false,
    stdout: '',
    stderr: '',
    stdout_bytes: 0,
    stderr_bytes: 0,
    stdout_truncated: false,
    stderr_truncated: false,
    started_at: timestamp(),
    completed_at: null,
    duration_ms: null,
  }
}
