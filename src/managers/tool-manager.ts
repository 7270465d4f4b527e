import { randomUUID } from 'node:crypto'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { ANYONE, type CallerLimits, type Making } from '../domain/caller.ts'
import { type Artifact, type Page, timestamp } from '../domain/common.ts'
import {
  type ExecuteTool,
  hasEnded,
  type ToolRun,
  type ToolRunSummary,
  ToolRunSummary as ToolRunSummarySchema,
} from '../domain/tool.ts'
import type { ContainerState, EngineInfo } from '../engine/engine.ts'
import { AppError, messageOf, unknownResource } from '../errors.ts'
import { failpoint } from '../failpoints.ts'
import { profileFor } from '../policy/caller-profile.ts'
import { type Profiles, requireNetwork } from '../policy/profiles.ts'
import { toolEnvironment } from '../policy/tool-environment.ts'
import { mountOf } from '../policy/volumes.ts'
import type { ListFilter } from '../store/records.ts'
import { requireCallerLabels } from './docker-manager.ts'
import { requireGpu } from './gpu.ts'
import { requireResources } from './host-limits.ts'
import { newId } from './names.ts'
import { type Release, RunQueue, type WaitingRun } from './queue.ts'
import { beginLog } from './run-output.ts'
import type { SessionGate } from './session-gate.ts'
import type { SessionQuotas, SessionUse } from './session-quotas.ts'
import { renewed } from './tool-attempt.ts'
import { ToolExecution, type ToolExecutionDeps } from './tool-execution.ts'
import type { ToolDecision } from './tool-preparation.ts'
import type { ToolEntry } from './tool-record.ts'
import { OUTPUT_FOLDER, planFolders } from './writable-folders.ts'

export interface ToolManagerOptions extends ToolExecutionDeps {
  engineInfo: EngineInfo
  profiles: Profiles
  gate: SessionGate
  quotas: SessionQuotas
  /** So many run at once. */
  maxConcurrentRuns: number
  /** So many may wait beside them. */
  queueLimit: number
}

const UNREAD_PAUSE_MS = 1_000

/** A run that waits for its turn: its request and record are in the store until then. */
interface Waiting extends WaitingRun {
  readonly owner: string | null
  readonly giveBack: () => void
  /** Of its caller; not known of a run that an earlier process accepted. */
  readonly limits?: CallerLimits
  /** Once it is its turn: until the run is active. */
  beginning?: Promise<void>
  /** Where a caller waits for its end. */
  ended?: PromiseWithResolvers<ToolRun>
}

/** Tool runs: accepts, runs, tells and cancels them. */
export class ToolManager {
  readonly #options: ToolManagerOptions
  readonly queue: RunQueue<Waiting>
  readonly #waiting = new Map<string, Waiting>()
  readonly #active = new Map<string, ToolExecution>()
  /** What waits now is left to the next start of the service. */
  #drained = false

  constructor(options: ToolManagerOptions) {
    this.#options = options
    this.queue = new RunQueue({
      concurrency: options.maxConcurrentRuns,
      limit: options.queueLimit,
      onTurn: (waiting, release) => {
        waiting.beginning = this.#take(waiting, release)
      },
    })
  }

  /** Accepts a run, which begins at its turn. Throws before anything is made where the request cannot be met. */
  async execute(request: ExecuteTool, { id = newId('exec'), caller = ANYONE }: Making = {}): Promise<ToolRun> {
    const { gate, volumes } = this.#options
    gate.admit(request.session_id)
    const decision = this.#decide(request, id, caller.limits)
    try {
      await volumes.within(decision.profile.hostRoots).claim(id, decision.volumes)
      return await this.#accept(request, { id, caller }, decision)
    } catch (error) {
      if (!this.isActive(id)) volumes.release(id)
      throw error
    }
  }

  async #accept(request: ExecuteTool, { id, caller }: Required<Making>, decision: ToolDecision): Promise<ToolRun> {
    const { quotas, store } = this.#options
    const { session_id: sessionId, priority } = request
    const admission = this.queue.admit()
    let giveBack = () => {}
    const entry: ToolEntry = {
      id,
      sessionId,
      owner: await store.sessions.ownerFor(sessionId, caller),
      name: request.tool_name,
      status: 'queued',
      live: true,
      containerId: null,
      nonce: randomUUID(),
      request,
      view: queuedRun(id, request, caller.owner),
    }
    try {
      giveBack = await quotas.hold(entry, caller.limits, useOf(request))
      await store.accept(entry, caller)
    } catch (error) {
      admission.withdraw()
      giveBack()
      throw error
    }
    failpoint('tool.accepted')
    const waiting: Waiting = { id, sessionId, owner: entry.owner, priority, giveBack, limits: caller.limits }
    this.#waiting.set(id, waiting)
    const release = admission.enter(waiting)
    if (release !== undefined) this.#begin(entry, waiting, release, (execution) => execution.run(decision))
    return this.#told(entry.view)
  }

  /** A run that was accepted before; undefined where there is none. */
  async accepted(id: string): Promise<ToolRun | undefined> {
    const view = this.#active.get(id)?.view ?? (await this.#options.store.tools.get(id))?.view
    return view && this.#told(view)
  }

  /** The run, as it is or as it ended. */
  async get(id: string): Promise<ToolRun> {
    const run = await this.accepted(id)
    if (run === undefined) throw unknownResource('tool', id)
    return run
  }

  /** A run that has ended and will not change, as JSON; undefined for one that may, and where there is none. */
  endedJson(id: string): Promise<string | undefined> {
    return this.isActive(id) ? Promise.resolve(undefined) : this.#options.store.tools.endedJson(id)
  }

  /** Resolves with the ended run; with the run as it is where the service stops before its end. */
  async ended(id: string): Promise<ToolRun> {
    const waiting = this.#waiting.get(id)
    if (waiting !== undefined && !this.#drained) {
      waiting.ended ??= Promise.withResolvers<ToolRun>()
      return waiting.ended.promise
    }
    return this.#active.get(id)?.ended ?? this.get(id)
  }

  /** Newest first, without output. */
  async list(filter: ListFilter): Promise<Page<ToolRunSummary>> {
    const page = await this.#options.store.tools.list(filter)
    return { ...page, items: page.items.map((run) => ToolRunSummarySchema.parse(this.#told(run))) }
  }

  /**
   * Cancels a run and answers it ended; a run that has ended is a `conflict`. Where the engine is away a
   * run that waits is cancelled all the same; one that has a container is a 503.
   */
  async cancel(id: string, graceSeconds?: number): Promise<ToolRun> {
    for (let waiting = this.#waiting.get(id); waiting !== undefined; waiting = this.#waiting.get(id)) {
      if (waiting.beginning === undefined) {
        const entry = await this.#entry(id)
        if (this.queue.remove(waiting)) {
          return this.#begin(entry, waiting, undefined, (execution) => execution.cancelUnstarted()).ended
        }
      }
      await waiting.beginning
    }
    const active = this.#active.get(id)
    const run = active?.view ?? (await this.get(id))
    if (active === undefined || hasEnded(run.status)) {
      throw new AppError('conflict', `Run "${id}" has ended already: ${run.status}`, {
        hint: 'Only a run that is queued, preparing or running can be cancelled.',
      })
    }
    const { availability } = this.#options.engine
    availability.require(`cancelling run ${id}`)
    // Once it was asked for it is done, at the latest when an engine that goes away now is back.
    const cancelled = active.cancel(graceSeconds).then(() => active.ended)
    return availability.during(cancelled, `cancelling run ${id}`)
  }

  /** Makes the log of a run that waits for its turn one that can be followed. */
  async openLog(id: string): Promise<void> {
    if (this.#waiting.has(id)) await beginLog(this.#options.store.spools, id, await this.get(id))
  }

  async artifacts(id: string): Promise<Artifact[]> {
    return (await this.get(id)).artifacts
  }

  /** An artifact by its path in the manifest; one of /output also by its path in there. */
  async artifact(id: string, path: string): Promise<{ artifact: Artifact; content: Readable }> {
    const wanted = path.replace(/^\/+/, '')
    const artifacts = await this.artifacts(id)
    const artifact =
      artifacts.find((candidate) => candidate.path === `/${wanted}`) ??
      artifacts.find((candidate) => candidate.path === `${OUTPUT_FOLDER}/${wanted}`)
    if (artifact === undefined) {
      throw new AppError('not_found', `Run "${id}" left no artifact "${path}"`, {
        hint: `GET /containers/tool/${id}/artifacts lists what there is.`,
      })
    }
    return { artifact, content: this.#options.store.artifacts.read(id, artifact.sha256) }
  }

  /** Runs of a session that have not ended. */
  activeIn(sessionId: string): string[] {
    const active = [...this.#active.values()]
      .filter(({ entry }) => entry.sessionId === sessionId && !hasEnded(entry.view.status))
      .map(({ entry }) => entry.id)
    const waiting = [...this.#waiting.values()].filter((run) => run.sessionId === sessionId).map(({ id }) => id)
    return [...waiting, ...active]
  }

  isActive(id: string): boolean {
    return this.#active.has(id) || this.#waiting.has(id)
  }

  /** True where a container is of the attempt that a run is at. */
  claims(id: string, nonce: string): boolean {
    return this.#waiting.has(id) || this.#active.get(id)?.entry.nonce === nonce
  }

  /** Lines up a run again that an earlier process accepted and never started. */
  async requeue(entry: ToolEntry): Promise<void> {
    const fresh = renewed({ ...entry, status: 'queued', view: { ...entry.view, status: 'queued', warm: false } })
    await this.#options.store.tools.update(fresh)
    const request = requestOf(entry)
    const { id, sessionId, owner } = entry
    this.wait({ id, sessionId, owner, ...standingOf({ ...request, ...request.resource_limits }) })
  }

  /** Lines up a run that waits in the store. */
  wait({ use, ...run }: Omit<Waiting, 'giveBack'> & { use: SessionUse }): void {
    const waiting: Waiting = { ...run, giveBack: this.#options.quotas.keep(run, use) }
    this.#waiting.set(run.id, waiting)
    const release = this.queue.enter(waiting)
    if (release !== undefined) waiting.beginning = this.#take(waiting, release)
  }

  /** Takes over a container that an earlier process started. */
  adopt(entry: ToolEntry, state: ContainerState): ToolExecution {
    const request = requestOf(entry)
    const waiting: Waiting = {
      id: entry.id,
      sessionId: entry.sessionId,
      owner: entry.owner,
      priority: request.priority,
      giveBack: this.#options.quotas.keep(entry, useOf(request)),
    }
    return this.#begin(entry, waiting, this.queue.occupy(), (execution) => execution.adopt(state))
  }

  /** Waits for the runs in flight, and leaves those that last longer or wait for their turn to the next start. */
  async drain(seconds: number): Promise<void> {
    this.queue.suspend('draining')
    const all = Promise.all([...this.#active.values()].map((execution) => execution.ended))
    await Promise.race([all, sleep(seconds * 1000, undefined, { ref: false })])
    for (const execution of this.#active.values()) execution.detach()
    this.#drained = true
    for (const { id, ended } of this.#waiting.values()) ended?.resolve(this.get(id))
  }

  /** Begins a run whose turn has come, as it is in the store. */
  async #take(waiting: Waiting, release: Release): Promise<void> {
    try {
      this.#start(await this.#entry(waiting.id), waiting, release)
    } catch (error) {
      const { log } = this.#options
      log.error(
        { event: 'tool.unread', execution_id: waiting.id, error: messageOf(error) },
        'a run could not be read from the store: it waits for another turn',
      )
      await sleep(UNREAD_PAUSE_MS, undefined, { ref: false })
      release()
      delete waiting.beginning
      const again = this.queue.enter(waiting)
      if (again !== undefined) waiting.beginning = this.#take(waiting, again)
    }
  }

  #start(entry: ToolEntry, waiting: Waiting, release: Release): void {
    try {
      const decision = this.#decide(requestOf(entry), entry.id, waiting.limits)
      this.#begin(entry, waiting, release, (execution) => execution.run(decision))
    } catch (error) {
      // The operator's policy has changed since the run was accepted: it fails with its refusal.
      this.#begin(entry, waiting, release, (execution) => execution.refuse(error as Error))
    }
  }

  #begin(
    entry: ToolEntry,
    waiting: Waiting,
    release: Release | undefined,
    how: (execution: ToolExecution) => Promise<void>,
  ): ToolExecution {
    const execution = new ToolExecution(this.#options, entry, requestOf(entry), release)
    this.#active.set(entry.id, execution)
    this.#waiting.delete(entry.id)
    waiting.ended?.resolve(execution.ended)
    void how(execution)
      .catch((error: unknown) => {
        this.#options.log.error({ event: 'tool.broke', execution_id: entry.id, err: error }, 'a run was not settled')
      })
      .finally(() => {
        this.#active.delete(entry.id)
        this.#options.volumes.release(entry.id)
        waiting.giveBack()
      })
    return execution
  }

  async #entry(id: string): Promise<ToolEntry> {
    const entry = await this.#options.store.tools.get(id)
    if (entry === undefined) throw unknownResource('tool', id)
    return entry
  }

  /** A run as callers see it: one that waits, with its place. */
  #told<View extends ToolRunSummary>(view: View): View {
    const waiting = view.status === 'queued' ? this.#waiting.get(view.execution_id) : undefined
    return {
      ...view,
      queue_position: waiting === undefined ? null : (this.queue.position(waiting) ?? null),
    }
  }

  /** Everything that can be refused without asking the engine. */
  #decide(request: ExecuteTool, executionId: string, limits?: CallerLimits): ToolDecision {
    const { images, profiles, volumes, engineInfo } = this.#options
    const profile = profileFor(profiles, 'tool', request.profile, limits)
    requireNetwork(profile, request.network_mode)
    requireCallerLabels(request.labels)
    images.requireAllowed(request, profile)
    requireResources(engineInfo, profile, request.resource_limits)
    if (request.gpu !== undefined) requireGpu(engineInfo, profile)
    toolEnvironment(request, executionId)
    const decisions = volumes.within(profile.hostRoots).decide(request.volumes)
    planFolders(
      request,
      decisions.map((decision) => mountOf(decision, decision.source)),
    )
    return { profile, volumes: decisions }
  }
}

/** How a request stands in line, and what it counts for in its session. */
export function standingOf({ priority, memory_mb }: { priority: number; memory_mb: number }): {
  priority: number
  use: SessionUse
} {
  return { priority, use: { runs: 1, containers: 1, memory_mb } }
}

function useOf({ priority, resource_limits }: ExecuteTool): SessionUse {
  return standingOf({ priority, ...resource_limits }).use
}

function requestOf(entry: ToolEntry): ExecuteTool {
  if (entry.request === null) throw new Error(`Run ${entry.id} was stored without its request`)
  return entry.request
}

/** A run as it is accepted. */
export function queuedRun(id: string, request: ExecuteTool, createdBy: string | null): ToolRun {
  return {
    execution_id: id,
    tool_name: request.tool_name,
    session_id: request.session_id,
    image: request.image ?? null,
    image_id: null,
    container_id: null,
    status: 'queued',
    exit_code: null,
    failure: null,
    result: null,
    result_source: null,
    stdout: '',
    stderr: '',
    stdout_bytes: 0,
    stderr_bytes: 0,
    stdout_truncated: false,
    stderr_truncated: false,
    resource_usage: null,
    oom_seen: false,
    artifacts: [],
    queued_at: timestamp(),
    started_at: null,
    completed_at: null,
    duration_ms: null,
    queue_position: null,
    timings: { queue_ms: null, image_ms: null, create_ms: null, start_ms: null, run_ms: null, collect_ms: null },
    warm: false,
    created_by: createdBy,
    labels: request.labels,
  }
}
