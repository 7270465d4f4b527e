import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from '../domain/worker-spec.ts'
import type { Engine, Exec, OutputChunk } from '../engine/engine.ts'
import { AppError, isEngineFault, messageOf } from '../errors.ts'
import { commandForm, WORKSPACE_FOLDER } from '../policy/worker-policy.ts'
import type { Log } from './log.ts'
import { EXECUTION_VARIABLE, programPath } from './toolbox-programs.ts'

export interface CommandOptions {
  /** Marks the command and what it starts. */
  id?: string
  command: Command
  workingDir?: string
  user?: string | undefined
  environment?: Readonly<Record<string, string>>
  stdin?: string | undefined
  /** Ends the watching; the command goes on. */
  detach: AbortSignal
}

/**
 * The engine's init, as a subreaper: what the command leaves behind by forking twice becomes its
 * child, so that the tree of a command can be found whole while the command runs.
 */
const INIT = ['/sbin/docker-init', '-s', '--']
const FIRST_LOOK_MS = 100
const LONGEST_LOOK_MS = 1_000
/** A command whose output has ended ends with it. */
const AFTER_OUTPUT_MS = 10
/** After its end, what a command wrote last arrives within moments. */
const DRAIN_MS = 300
const KILL_TRIES = 5
const KILL_PAUSE_MS = 500
const KILL_DEADLINE_MS = 15_000

/** A command beside a worker's process, with what it writes, its end as the engine tells it, and the way to end it. */
export class WorkerCommand {
  readonly id: string
  readonly #engine: Engine
  readonly #log: Log
  readonly #containerId: string
  readonly #options: CommandOptions
  readonly #exec: Exec

  private constructor(engine: Engine, log: Log, containerId: string, id: string, options: CommandOptions, exec: Exec) {
    this.#engine = engine
    this.#log = log
    this.#containerId = containerId
    this.id = id
    this.#options = options
    this.#exec = exec
  }

  /** Starts it beside the worker's own process; a container that does not run is a `conflict`. */
  static async start(
    { engine, log }: { engine: Engine; log: Log },
    containerId: string,
    options: CommandOptions,
  ): Promise<WorkerCommand> {
    const id = options.id ?? `exec_${randomUUID()}`
    const environment = { ...options.environment, [EXECUTION_VARIABLE]: id }
    const folder = options.workingDir ?? WORKSPACE_FOLDER
    const names = Object.keys(environment).join(' ')
    const command = [...INIT, programPath('worker-exec'), folder, names, ...commandForm(options.command)]
    const exec = await engine.containers.exec(containerId, {
      command,
      stdin: options.stdin !== undefined,
      environment,
      signal: options.detach,
      ...(options.user === undefined ? {} : { user: options.user }),
    })
    const started = new WorkerCommand(engine, log, containerId, id, options, exec)
    // Beside all else: a command may never read it, or write much before it does.
    if (options.stdin !== undefined) void pipeline(Readable.from([options.stdin]), exec.stdin).catch(() => {})
    return started
  }

  /**
   * Tells its output until it ends, and answers its exit code; null where the engine does not know it
   * any more. What it left running in the background may hold its output open: its own end counts.
   */
  async run(onOutput: (chunk: OutputChunk) => Promise<void> | void): Promise<number | null> {
    let drained = false
    const pumping = this.#pump(onOutput).finally(() => {
      drained = true
    })
    pumping.catch(() => {})
    try {
      for (let pause = FIRST_LOOK_MS; ; pause = Math.min(pause * 2, LONGEST_LOOK_MS)) {
        const rest = new AbortController()
        const waited = sleep(drained ? AFTER_OUTPUT_MS : pause, undefined, { signal: rest.signal }).catch(() => {})
        await Promise.race(drained ? [waited] : [pumping, waited])
        rest.abort()
        if (this.#options.detach.aborted) return null
        const state = await this.#inspect()
        if (state === undefined) return null
        if (state.running) continue
        const patience = new AbortController()
        await Promise.race([pumping, sleep(DRAIN_MS, undefined, { signal: patience.signal }).catch(() => {})])
        patience.abort()
        return state.exitCode
      }
    } finally {
      this.#exec.close()
    }
  }

  /** Ends the command and all that it started; resolves when none of it is left. */
  kill(): Promise<void> {
    return WorkerCommand.end({ engine: this.#engine, log: this.#log }, this.#containerId, this.id, this.#options.user)
  }

  /**
   * Ends a command by its mark. Where that cannot be done from inside (no process can be started there
   * any more), the worker's container is killed.
   */
  static async end(
    { engine, log }: { engine: Engine; log: Log },
    containerId: string,
    id: string,
    user: string | undefined,
  ): Promise<void> {
    for (let attempt = 1; attempt <= KILL_TRIES; attempt++) {
      const state = await engine.containers.inspect(containerId)
      if (state === undefined || (state.status !== 'running' && state.status !== 'paused')) return
      try {
        // Frozen processes do not die.
        const wasPaused = state.status === 'paused'
        if (wasPaused) await engine.containers.resume(containerId)
        const dead = await killTree(engine, containerId, id, user)
        if (wasPaused) await engine.containers.pause(containerId)
        if (dead) return
      } catch (error) {
        log.warn({ event: 'exec.kill_failed', exec_id: id, attempt, error: messageOf(error) }, 'a command lives on')
      }
      await sleep(KILL_PAUSE_MS)
    }
    log.error(
      { event: 'exec.container_killed', exec_id: id, container_id: containerId },
      'the container of a command that could not be ended was killed',
    )
    await engine.containers.kill(containerId)
  }

  async #inspect(): Promise<{ running: boolean; exitCode: number | null } | undefined> {
    try {
      return await this.#exec.inspect()
    } catch (error) {
      // The engine forgets a command with its container.
      if (isEngineFault(error, 'not_found')) return undefined
      // While the engine is away the command may go on.
      if (isEngineFault(error, 'unavailable', 'deadline')) return { running: true, exitCode: null }
      throw error
    }
  }

  async #pump(onOutput: (chunk: OutputChunk) => Promise<void> | void): Promise<void> {
    for await (const chunk of this.#exec.output) await onOutput(chunk)
  }
}

/** True where nothing of a command is left. */
async function killTree(engine: Engine, containerId: string, id: string, user: string | undefined): Promise<boolean> {
  const signal = AbortSignal.timeout(KILL_DEADLINE_MS)
  const exec = await engine.containers.exec(containerId, {
    command: [programPath('worker-kill'), id],
    stdin: false,
    signal,
    ...(user === undefined ? {} : { user }),
  })
  for await (const _ of exec.output) signal.throwIfAborted()
  const { running, exitCode } = await exec.inspect()
  return !running && exitCode === 0
}

/** Runs a short command to its end within a time: its output (bounded) and exit code. */
export async function runBriefly(
  deps: { engine: Engine; log: Log },
  containerId: string,
  options: Omit<CommandOptions, 'detach'>,
  timeoutMs: number,
  { signal, limit = BRIEF_OUTPUT }: { signal?: AbortSignal; limit?: number } = {},
): Promise<{ exitCode: number | null; stdout: string; stderr: string; timedOut: boolean }> {
  const output = { stdout: '', stderr: '' }
  const detach = new AbortController()
  const running = await WorkerCommand.start(deps, containerId, { ...options, detach: detach.signal })
  const deadline = AbortSignal.timeout(Math.ceil(timeoutMs))
  const over = signal === undefined ? deadline : AbortSignal.any([signal, deadline])
  let timedOut = false
  const kill = () => {
    timedOut = true
    void running.kill().catch(() => detach.abort())
  }
  if (over.aborted) kill()
  else over.addEventListener('abort', kill, { once: true })
  try {
    const exitCode = await running.run(({ stream, bytes }) => {
      if (output[stream].length < limit) output[stream] += bytes.toString('utf8')
    })
    signal?.throwIfAborted()
    return { exitCode, ...output, timedOut }
  } finally {
    over.removeEventListener('abort', kill)
  }
}

/** Characters of each stream that a short command's answer keeps. */
const BRIEF_OUTPUT = 64 * 1024

/** Refuses what needs a running worker. */
export function requireRunning(workerId: string, status: string): void {
  if (status === 'running') return
  throw new AppError('conflict', `Worker "${workerId}" is ${status}, not running`, {
    hint: status === 'paused' ? 'Resume it first.' : `Start it with POST /containers/worker/${workerId}/ensure.`,
  })
}
