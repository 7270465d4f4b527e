/** One tool run from its place in the queue to its end: the state machine that the store records. */
import { timestamp } from '../domain/common.ts'
import { type ExecuteTool, hasEnded, type ToolRun } from '../domain/tool.ts'
import type { ContainerState } from '../engine/engine.ts'
import { AppError, isEngineFault, messageOf } from '../errors.ts'
import { failpoint } from '../failpoints.ts'
import { type Outcome, outcomeOf, outcomeOfError } from './outcome.ts'
import { RunOutput } from './run-output.ts'
import { ToolAttempt } from './tool-attempt.ts'
import { ColdStart, type ColdStartDeps } from './tool-cold-start.ts'
import type { ToolDecision } from './tool-preparation.ts'
import { ToolProcess, type ToolProcessDeps } from './tool-process.ts'
import { type ToolEntry, ToolRecord } from './tool-record.ts'
import { WarmStart, type WarmStartDeps } from './tool-warm-start.ts'

export interface ToolExecutionDeps extends ColdStartDeps, WarmStartDeps, ToolProcessDeps {}

/** A run that the engine's absence keeps from starting waits so long for it, and is begun anew so often. */
const ENGINE_AWAY_MS = 60_000
const START_TRIES = 3

export class ToolExecution {
  /** Resolves with the ended run; with the run as it is where the service stops before its end. Never rejects. */
  readonly ended: Promise<ToolRun>
  readonly #deps: ToolExecutionDeps
  readonly #request: ExecuteTool
  readonly #release: () => void
  readonly #output: RunOutput
  readonly #record: ToolRecord
  readonly #attempt: ToolAttempt
  readonly #process: ToolProcess
  #resolveEnded: (run: ToolRun) => void = () => {}

  /** `release` is called when the process has ended, or will not be. */
  constructor(deps: ToolExecutionDeps, entry: ToolEntry, request: ExecuteTool, release = () => {}) {
    this.#deps = deps
    this.#request = request
    this.#release = release
    const { docker, store, log } = deps
    this.#output = new RunOutput({ spools: store.spools, runId: entry.id, log })
    this.#record = new ToolRecord({ entry, store, output: this.#output, log })
    this.#attempt = new ToolAttempt(docker, entry)
    this.#process = new ToolProcess(deps, { request, record: this.#record, output: this.#output })
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve
    })
  }

  get entry(): ToolEntry {
    return this.#record.entry
  }

  /** The run as it is, with the output so far. */
  get view(): ToolRun {
    return hasEnded(this.entry.view.status) ? this.entry.view : { ...this.entry.view, ...this.#output.view }
  }

  /** Takes a run whose turn it is through all of its states. */
  async run(decision: ToolDecision): Promise<void> {
    await this.#settling(async () => {
      const { view } = this.entry
      await this.#output.open(view)
      failpoint('tool.turn')
      view.timings.queue_ms = Math.max(0, Date.now() - Date.parse(view.queued_at))
      return this.#begin(decision)
    })
  }

  /** Ends a run that cannot be begun. */
  async refuse(error: Error): Promise<void> {
    await this.#settling(async () => {
      await this.#output.open(this.entry.view)
      throw error
    })
  }

  /** Ends a run before its turn. */
  async cancelUnstarted(): Promise<void> {
    await this.#process.end('cancelled')
    await this.refuse(new Error('The run is ended: cancelled'))
  }

  /** Takes over a container that an earlier process started. */
  async adopt(state: ContainerState): Promise<void> {
    await this.#settling(async () => {
      await this.#output.open(this.entry.view)
      this.#attempt.startAsked = true
      return this.#process.adopt(state)
    })
  }

  /** Ends the run as `cancelled`; a container that runs is killed, or asked first where there is a grace. */
  async cancel(graceSeconds?: number): Promise<void> {
    await this.#process.end('cancelled', graceSeconds)
  }

  /** Leaves the run to the next start of the service: nothing about it is settled any more. */
  detach(): void {
    this.#process.detach()
    this.#resolveEnded(this.view)
  }

  async #settling(work: () => Promise<Outcome>): Promise<void> {
    const { detached } = this.#process
    let outcome: Outcome
    try {
      outcome = await work()
    } catch (error) {
      if (detached.aborted) return
      await this.#tellBuildOutput(error)
      outcome = this.#failed(error)
    } finally {
      this.#release()
    }
    if (detached.aborted) return
    await this.#finish(outcome)
  }

  /** In a parked container where one waits that fits, in one of its own otherwise, and anew where the engine was away. */
  async #begin(decision: ToolDecision): Promise<Outcome> {
    const tool = { request: this.#request, record: this.#record, attempt: this.#attempt, toolProcess: this.#process }
    const warm = new WarmStart(this.#deps, tool, decision.profile)
    const cold = new ColdStart(this.#deps, tool, decision)
    try {
      for (let tries = 1; ; tries++) {
        try {
          const outcome = tries === 1 ? await warm.run() : undefined
          return outcome ?? (await cold.run())
        } catch (error) {
          if (tries === START_TRIES || !(await this.#mayBeginAnew(error))) throw error
        }
      }
    } finally {
      warm.over()
    }
  }

  /**
   * True where the engine was away before it was asked to start the process, and is back: whatever it
   * made of the attempt bears the attempt's nonce, which nobody claims any more.
   */
  async #mayBeginAnew(error: unknown): Promise<boolean> {
    const { endReason, signal } = this.#process
    if (this.#attempt.startAsked || endReason !== undefined || !isEngineFault(error, 'unavailable', 'deadline'))
      return false
    const { engine, log } = this.#deps
    log.warn(
      { event: 'tool.begun_anew', execution_id: this.entry.id, error: messageOf(error) },
      'the engine was away before a run could start: it is begun anew',
    )
    const patience = AbortSignal.any([signal, AbortSignal.timeout(ENGINE_AWAY_MS)])
    const isBack = await engine.availability.restored(patience).then(
      () => true,
      () => false,
    )
    if (isBack) this.#attempt.giveUp({ isNamed: true })
    return isBack
  }

  /** What a failed build wrote last is what the run has to show. */
  async #tellBuildOutput(error: unknown): Promise<void> {
    const tail = error instanceof AppError ? error.details.logsTail : undefined
    if (tail === undefined) return
    await this.#output.add({ stream: 'stderr', bytes: Buffer.from(tail) })
  }

  #failed(error: unknown): Outcome {
    const { endReason } = this.#process
    // Whatever broke off on the way, it did so since the run was ended.
    if (endReason !== undefined) return { ...outcomeOf(NEVER_RAN, { reason: endReason }), exitCode: null }
    if (!(error instanceof AppError)) {
      this.#deps.log.error(
        { event: 'tool.broke', execution_id: this.entry.id, err: error },
        'a run failed by a fault of the service',
      )
    }
    return outcomeOfError(error)
  }

  async #finish(outcome: Outcome): Promise<void> {
    const { docker, log } = this.#deps
    const { detached } = this.#process
    const { view } = this.entry
    Object.assign(view, this.#output.view, {
      status: outcome.status,
      exit_code: outcome.exitCode,
      failure: outcome.failure,
      completed_at: view.completed_at ?? timestamp(),
    })
    const { containerId } = this.entry
    if (containerId !== null && !this.#attempt.startAsked) docker.hostMounts.gone(containerId)
    // Before anybody is answered: what comes next may mount the same.
    docker.hostMounts.release(this.entry.id)
    const kept = !this.#request.cleanup && containerId !== null
    this.entry.status = outcome.status
    this.entry.live = false
    // A container that is kept is claimed by its request, until its session is cleaned up.
    if (!kept) this.entry.request = null
    // Its container stays until its end is stored: a next start of the service can still tell it from that.
    // Who waits is answered although the end is not stored yet.
    await this.#record.storeEnd(detached, () => this.#resolveEnded(view))
    failpoint('tool.stored')
    if (detached.aborted) return
    this.#output.state(view.status)
    await this.#output.seal().catch((error: unknown) => {
      log.error({ event: 'tool.log_cut', execution_id: this.entry.id, error: messageOf(error) }, 'a log has gaps')
    })
    failpoint('tool.sealed')
    // Whoever waits is answered before the container goes, in the same turn of the event loop.
    this.#resolveEnded(view)
    if (!kept) this.#attempt.remove()
    log.info(
      {
        event: 'tool.finished',
        execution_id: this.entry.id,
        tool_name: view.tool_name,
        session_id: view.session_id,
        outcome: view.status,
        failure: view.failure?.code,
        exit_code: view.exit_code,
        duration_ms: view.duration_ms,
      },
      'tool finished',
    )
  }
}

/** Stands for the state of a process that was never started. */
const NEVER_RAN = { exitCode: 0, oomKilled: false, error: '' }
