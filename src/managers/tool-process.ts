import { setTimeout as sleep } from 'node:timers/promises'
import { timestamp } from '../domain/common.ts'
import { type ExecuteTool, hasEnded } from '../domain/tool.ts'
import type { Attachment, ContainerState, Engine } from '../engine/engine.ts'
import { messageOf } from '../errors.ts'
import { failpoint } from '../failpoints.ts'
import { elapsedSince } from './boot-clock.ts'
import { untilEnded } from './container-end.ts'
import type { DockerManager } from './docker-manager.ts'
import type { ResolvedImage } from './image-manager.ts'
import { type EndReason, endedInAbsence, type Outcome, outcomeOf } from './outcome.ts'
import type { OutputLook } from './output-folder.ts'
import { wasNeverHandedOver } from './pool-client.ts'
import type { RunOutput } from './run-output.ts'
import type { StatsStreams } from './stats-streams.ts'
import type { ToolRecord } from './tool-record.ts'
import { collectResults, type ToolResultsDeps } from './tool-results.ts'
import { UsageMeter } from './usage-meter.ts'

export interface ToolProcessDeps extends ToolResultsDeps {
  engine: Engine
  docker: DockerManager
  streams: StatsStreams
}

/** Whose process it is. */
interface ToolOf {
  request: ExecuteTool
  record: ToolRecord
  output: RunOutput
}

/** A process that has just been started, in a container whose output is attached. */
interface Started {
  attachment: Attachment
  image: ResolvedImage
  startedAt: Date
  /** What /output looked like then. */
  before: OutputLook
  /** False where the engine's answer to the start was missing at first. */
  answered?: boolean
}

/** How long a run whose engine is away waits for it beyond its own timeout. */
const ENGINE_AWAY_MS = 60_000
const KILL_RETRY_MS = 1_000

/** The process of a tool run, in whichever container it is: watched to its end, or ended early. */
export class ToolProcess {
  readonly #deps: ToolProcessDeps
  readonly #tool: ToolOf
  readonly #abort = new AbortController()
  readonly #detach = new AbortController()
  #endReason: EndReason | undefined
  #wasKilled = false

  constructor(deps: ToolProcessDeps, tool: ToolOf) {
    this.#deps = deps
    this.#tool = tool
  }

  /** Aborts where it is ended early, begun or not, and where the service lets go of it. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** Aborts where the service lets go of it, and leaves it to its next start. */
  get detached(): AbortSignal {
    return this.#detach.signal
  }

  /** Why it is ended early; undefined where it is not, or had ended by itself before. */
  get endReason(): EndReason | undefined {
    return this.#endReason
  }

  detach(): void {
    this.#detach.abort()
    this.#abort.abort(new Error('The service is stopping'))
  }

  /** The first reason counts. A process that runs is killed, or asked first where there is a grace. */
  async end(reason: EndReason, graceSeconds?: number): Promise<void> {
    const { containerId, view } = this.#tool.record.entry
    if (this.#endReason !== undefined || hasEnded(view.status)) return
    this.#endReason = reason
    this.#abort.abort(new Error(`The run is ended: ${reason}`))
    if (containerId !== null && view.status === 'running') await this.#kill(containerId, graceSeconds)
  }

  /** From a process that was started to its outcome; undefined where a parked one never became the tool. */
  async follow({ attachment, image, startedAt, before, answered = true }: Started): Promise<Outcome | undefined> {
    const { output, record } = this.#tool
    const containerId = record.entry.containerId as string
    const usage = new UsageMeter(this.#deps.streams, containerId)
    const halfClose = this.#deps.engine.halfClose.watch(attachment.stdin, { teaches: record.entry.view.warm })
    output.follow({ ...this.#outputOf(containerId), halfClose }, attachment)
    // What cut off the answer may have cut off the attachment.
    if (!answered) output.interrupted()
    const noted = record.note(
      {
        status: 'running',
        container_id: containerId,
        image: image.reference,
        image_id: image.id,
        started_at: timestamp(startedAt),
      },
      containerId,
    )
    try {
      failpoint('tool.running')
      return await this.#watch(containerId, usage, startedAt, before)
    } finally {
      // What is stored of the end comes after it.
      await noted
    }
  }

  /** As `follow`, for a container that an earlier process of the service started. */
  async adopt(state: ContainerState): Promise<Outcome> {
    const { output, record } = this.#tool
    await output.resume(this.#outputOf(state.id))
    const usage = state.status === 'running' ? new UsageMeter(this.#deps.streams, state.id) : undefined
    const since = this.#adoptedSince(state)
    await record.note({ status: 'running', container_id: state.id, started_at: timestamp(since) }, state.id)
    return (await this.#watch(state.id, usage, since, undefined)) ?? NEVER_TOLD
  }

  /** When the tool of an adopted container began, as far as that is known: one that was parked started before. */
  #adoptedSince({ startedAt, finishedAt }: ContainerState): Date {
    const { started_at, warm } = this.#tool.record.entry.view
    if (!warm) return startedAt ?? finishedAt ?? new Date()
    return started_at === null ? (finishedAt ?? new Date()) : new Date(started_at)
  }

  /**
   * From a started container to its outcome, with output, usage and artifacts taken; undefined where it was
   * a parked one that never became the tool.
   */
  async #watch(
    containerId: string,
    usage: UsageMeter | undefined,
    startedAt: Date,
    before: OutputLook,
  ): Promise<Outcome | undefined> {
    const { docker, engine } = this.#deps
    const { output, record, request } = this.#tool
    const { started, view } = record.entry
    const { timeout_seconds } = request.resource_limits
    // The wall clock may have been set since; the engine's stamp is all there is of a start before the host's.
    const elapsed = () => (started && elapsedSince(started)) ?? Date.now() - startedAt.getTime()
    const remaining = Math.min(timeout_seconds * 1000, Math.max(0, timeout_seconds * 1000 - elapsed()))
    const state = await this.#untilEnded(containerId, remaining)
    const tookAtMost = elapsed()
    // It never runs again, whether its container is kept or not.
    docker.hostMounts.gone(containerId)
    failpoint('tool.ended')
    await output.drained(state?.finishedAt)
    failpoint('tool.drained')
    view.resource_usage = usage?.stop() ?? null
    const { warm } = view
    if (warm && state !== undefined && (await wasNeverHandedOver(engine.containers, state))) return undefined
    // One that was parked started before its tool did.
    const began = (warm ? undefined : state?.startedAt) ?? startedAt
    const completedAt = endOf(state?.finishedAt, began, warm ? tookAtMost : undefined)
    const duration_ms = completedAt.getTime() - began.getTime()
    view.timings.run_ms = duration_ms
    view.oom_seen = state?.oomKilled ?? false
    if (state !== undefined) await collectResults(this.#deps, this.#tool, state, before)
    Object.assign(view, { started_at: timestamp(began), completed_at: timestamp(completedAt), duration_ms })
    if (state === undefined) return REMOVED
    failpoint('tool.collected')
    return outcomeOf(state, {
      reason: this.#endReason,
      timeoutSeconds: timeout_seconds,
      engineLeft: endedInAbsence(state, engine.availability),
    })
  }

  /** The state in which its process ended, after so many milliseconds at the latest; undefined where the container is gone. */
  async #untilEnded(containerId: string, remaining: number): Promise<ContainerState | undefined> {
    const timer = setTimeout(() => void this.end('timeout'), remaining)
    try {
      // A cancel that came while the container was being started finds it here.
      if (this.#endReason !== undefined) await this.#kill(containerId)
      const until = performance.now() + remaining + ENGINE_AWAY_MS
      return await untilEnded(this.#deps.engine.containers, containerId, {
        signal: this.#detach.signal,
        until,
        onInterrupted: () => this.#tool.output.interrupted(),
      })
    } finally {
      clearTimeout(timer)
    }
  }

  /** Repeats what the engine fails to do: a run must not outlive its timeout. */
  async #kill(containerId: string, graceSeconds?: number): Promise<void> {
    const { engine, log } = this.#deps
    const { entry } = this.#tool.record
    while (!this.#detach.signal.aborted && !hasEnded(entry.view.status)) {
      try {
        if (graceSeconds !== undefined) await engine.containers.stop(containerId, graceSeconds)
        // Where it ended by itself in the meantime, its own end is what counts.
        else if (!(await engine.containers.kill(containerId)) && !this.#wasKilled) this.#endReason = undefined
        this.#wasKilled = this.#endReason !== undefined
        return
      } catch (error) {
        log.warn(
          { event: 'tool.kill_failed', execution_id: entry.id, error: messageOf(error) },
          'a run could not be killed',
        )
        await sleep(KILL_RETRY_MS)
      }
    }
  }

  #outputOf(containerId: string) {
    return { engine: this.#deps.engine, containerId, detach: this.#detach.signal }
  }
}

/** The end of a run whose container is gone. */
const REMOVED = lost('The container was removed by somebody else while it ran')

/** The end of an adopted run whose parked container had not been told what to run after all. */
const NEVER_TOLD = lost('The service ended before its container was told what to run')

function lost(message: string): Outcome {
  return { status: 'failed', exitCode: null, failure: { code: 'lost', message, hint: null } }
}

/**
 * When a run ended, by the engine's word. Where its beginning is by this service's clock, of which the
 * engine's may be another, `tookAtMost` is the milliseconds that passed until its end was seen.
 */
function endOf(finishedAt: Date | undefined, began: Date, tookAtMost: number | undefined): Date {
  const end = finishedAt ?? new Date()
  const took = end.getTime() - began.getTime()
  if (tookAtMost !== undefined && (took < 0 || took > tookAtMost)) {
    return new Date(began.getTime() + Math.max(0, tookAtMost))
  }
  // An engine stamps the start of a very short run after its end.
  return took < 0 ? began : end
}
