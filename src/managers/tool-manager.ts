import { randomUUID } from 'node:crypto'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Artifact, type Page, timestamp } from '../domain/common.ts'
import {
  type ExecuteTool,
  hasEnded,
  type ToolRun,
  type ToolRunSummary,
  ToolRunSummary as ToolRunSummarySchema,
} from '../domain/tool.ts'
import type { ContainerState, EngineInfo } from '../engine/engine.ts'
import { AppError } from '../errors.ts'
import { type Profiles, profileFor, requireNetwork } from '../policy/profiles.ts'
import { toolEnvironment } from '../policy/tool-environment.ts'
import { mountOf } from '../policy/volumes.ts'
import type { ListFilter } from '../store/records.ts'
import { requireCallerLabels } from './docker-manager.ts'
import { requireGpu } from './gpu.ts'
import { requireCores } from './host-limits.ts'
import { newId } from './names.ts'
import type { SessionGate } from './session-gate.ts'
import { renewed, type ToolDecision, type ToolEntry, ToolExecution, type ToolExecutionDeps } from './tool-execution.ts'
import { OUTPUT_FOLDER, planFolders } from './writable-folders.ts'

export interface ToolManagerOptions extends ToolExecutionDeps {
  engineInfo: EngineInfo
  profiles: Profiles
  gate: SessionGate
}

/** Tool runs: accepts, runs, tells and cancels them. */
export class ToolManager {
  readonly #options: ToolManagerOptions
  readonly #active = new Map<string, ToolExecution>()

  constructor(options: ToolManagerOptions) {
    this.#options = options
  }

  /** Accepts a run and begins it. Throws before anything is made where the request cannot be met. */
  async execute(request: ExecuteTool, id: string = newId('exec')): Promise<ToolExecution> {
    const { gate, queue, store, volumes } = this.#options
    gate.requireOpen(request.session_id)
    const decision = this.#decide(request, id)
    await volumes.check(decision.volumes)
    queue.admit()
    const entry: ToolEntry = {
      id,
      sessionId: request.session_id,
      name: request.tool_name,
      status: 'queued',
      live: true,
      containerId: null,
      nonce: randomUUID(),
      request,
      view: queuedRun(id, request),
    }
    try {
      await store.sessions.touch(request.session_id)
      await store.tools.insert(entry)
    } catch (error) {
      queue.withdraw()
      throw error
    }
    return this.#begin(entry, request, decision, (execution) => execution.run())
  }

  /** A run that was accepted before, to be waited for; undefined where there is none. */
  async accepted(id: string): Promise<Pick<ToolExecution, 'view' | 'ended'> | undefined> {
    const active = this.#active.get(id)
    if (active !== undefined) return active
    const view = (await this.#options.store.tools.get(id))?.view
    return view && { view, ended: Promise.resolve(view) }
  }

  /** The run, as it is or as it ended. */
  async get(id: string): Promise<ToolRun> {
    const active = this.#active.get(id)
    if (active !== undefined) return active.view
    const entry = await this.#options.store.tools.get(id)
    if (entry === undefined) throw new AppError('not_found', `There is no tool run "${id}"`)
    return entry.view
  }

  /** Newest first, without output. */
  async list(filter: ListFilter): Promise<Page<ToolRunSummary>> {
    const page = await this.#options.store.tools.list(filter)
    return { ...page, items: page.items.map((run) => ToolRunSummarySchema.parse(run)) }
  }

  /** Cancels a run and answers it ended; a run that has ended is a `conflict`. */
  async cancel(id: string, graceSeconds?: number): Promise<ToolRun> {
    const active = this.#active.get(id)
    const run = active?.view ?? (await this.get(id))
    if (active === undefined || hasEnded(run.status)) {
      throw new AppError('conflict', `Run "${id}" has ended already: ${run.status}`, {
        hint: 'Only a run that is queued, preparing or running can be cancelled.',
      })
    }
    await active.cancel(graceSeconds)
    return active.ended
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
    return [...this.#active.values()]
      .filter(({ entry }) => entry.sessionId === sessionId && !hasEnded(entry.view.status))
      .map(({ entry }) => entry.id)
  }

  isActive(id: string): boolean {
    return this.#active.has(id)
  }

  /** Begins a run again that an earlier process accepted and never started. */
  async requeue(entry: ToolEntry): Promise<void> {
    const request = requestOf(entry)
    const fresh = renewed({ ...entry, status: 'queued', view: { ...entry.view, status: 'queued' } })
    await this.#options.store.tools.update(fresh)
    // The operator's policy may have changed since: then the run fails with its refusal.
    const decide = async (): Promise<ToolDecision> => this.#decide(request, entry.id)
    const decision = await decide().catch((error: AppError) => error)
    if (decision instanceof Error) this.#begin(fresh, request, undefined, (execution) => execution.refuse(decision))
    else this.#begin(fresh, request, decision, (execution) => execution.run())
  }

  /** Takes over a container that an earlier process started. */
  adopt(entry: ToolEntry, state: ContainerState): ToolExecution {
    return this.#begin(entry, requestOf(entry), undefined, (execution) => execution.adopt(state))
  }

  /** Waits for the runs in flight, and leaves those that last longer to the next start. */
  async drain(seconds: number): Promise<void> {
    const all = Promise.all([...this.#active.values()].map((execution) => execution.ended))
    await Promise.race([all, sleep(seconds * 1000, undefined, { ref: false })])
    for (const execution of this.#active.values()) execution.detach()
  }

  #begin(
    entry: ToolEntry,
    request: ExecuteTool,
    decision: ToolDecision | undefined,
    how: (execution: ToolExecution) => Promise<void>,
  ): ToolExecution {
    const execution = new ToolExecution(this.#options, entry, request, decision)
    this.#active.set(entry.id, execution)
    void how(execution)
      .catch((error: unknown) => {
        this.#options.log.error({ event: 'tool.broke', execution_id: entry.id, err: error }, 'a run was not settled')
      })
      .finally(() => this.#active.delete(entry.id))
    return execution
  }

  /** Everything that can be refused without asking the engine. */
  #decide(request: ExecuteTool, executionId: string): ToolDecision {
    const { images, profiles, volumes, engineInfo } = this.#options
    const profile = profileFor(profiles, 'tool', request.profile)
    requireNetwork(profile, request.network_mode)
    requireCallerLabels(request.labels)
    images.requireAllowed(request)
    requireCores(engineInfo, request.resource_limits.cpu_limit, 'resource_limits.cpu_limit')
    if (request.gpu !== undefined) requireGpu(engineInfo)
    toolEnvironment(request, executionId)
    const decisions = volumes.decide(request.volumes)
    planFolders(
      request,
      decisions.map((decision) => mountOf(decision, decision.source)),
    )
    return { profile, volumes: decisions }
  }
}

function requestOf(entry: ToolEntry): ExecuteTool {
  if (entry.request === null) throw new Error(`Run ${entry.id} was stored without its request`)
  return entry.request
}

function queuedRun(id: string, request: ExecuteTool): ToolRun {
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
    artifacts: [],
    queued_at: timestamp(),
    started_at: null,
    completed_at: null,
    duration_ms: null,
    timings: { queue_ms: null, image_ms: null, create_ms: null, start_ms: null, run_ms: null, collect_ms: null },
    warm: false,
    created_by: null,
    labels: request.labels,
  }
}
