import { timestamp } from '../domain/common.ts'
import type { Worker, WorkerStatus } from '../domain/worker.ts'
import type { StartWorker, Workspace } from '../domain/worker-spec.ts'
import type { ContainerState } from '../engine/engine.ts'
import { AppError } from '../errors.ts'
import { exitMeaning } from '../policy/exit-codes.ts'
import { memoryBytes, WORKSPACE_FOLDER } from '../policy/worker-policy.ts'
import type { Entry } from '../store/records.ts'
import type { SpoolWriter } from '../store/spool-writer.ts'
import type { Store } from '../store/store.ts'
import { type Absence, endedByEngine } from './outcome.ts'

export type WorkerEntry = Entry<StartWorker, Worker>

/** Row status of a worker that callers do not see any more. */
export const DELETED = 'deleted'

/** True where what was asked for was lost with a store: it cannot be started again as it was. */
export function isRebuilt({ request }: WorkerEntry): boolean {
  return request?.rebuilt === true
}

/** States in which a worker has a container that runs, or is about to. */
export const LIVE: ReadonlySet<WorkerStatus> = new Set<WorkerStatus>(['preparing', 'starting', 'running', 'paused'])

/** What is known of a worker: its row in the store, kept in step with each change, and its output. */
export class WorkerRecord {
  readonly entry: WorkerEntry
  readonly request: StartWorker
  readonly #store: Store
  #spool: SpoolWriter | undefined

  constructor(store: Store, entry: WorkerEntry, request: StartWorker) {
    this.#store = store
    this.entry = entry
    this.request = request
  }

  get isLive(): boolean {
    return LIVE.has(this.entry.view.status)
  }

  /** Changes what callers see, in the store and, where the status changes, in its log. */
  async update(change: Partial<Worker> & { status: WorkerStatus }, rowStatus: string = change.status): Promise<void> {
    const told = this.entry.view.status !== change.status
    Object.assign(this.entry.view, change)
    this.entry.status = rowStatus
    await this.save()
    if (told) this.#spool?.state({ status: change.status, at: timestamp() })
  }

  async save(): Promise<void> {
    await this.#store.workers.update(this.entry)
  }

  /** Where its output goes from now on. */
  async openSpool(): Promise<SpoolWriter> {
    this.#spool = await this.#store.spools.open(this.entry.id)
    return this.#spool
  }

  async sealSpool(): Promise<void> {
    await this.#store.spools.seal(this.entry.id)
  }

  get containerId(): string {
    if (this.entry.containerId !== null) return this.entry.containerId
    throw new AppError('conflict', `Worker "${this.entry.name}" has no container`)
  }

  /** Exit code of an ended process, and what it means; both null where none ever ran. */
  exitOf(state: ContainerState | undefined, absence?: Absence): Pick<Worker, 'exit_code' | 'exit_meaning'> {
    if (state?.startedAt === undefined) return { exit_code: null, exit_meaning: null }
    if (absence !== undefined && endedByEngine(state, absence)) {
      return { exit_code: state.exitCode, exit_meaning: { meaning: 'ended by its engine', action: 'restart' } }
    }
    return { exit_code: state.exitCode, exit_meaning: exitMeaning(state, this.request.exit_codes) }
  }

  requireStatus(wanted: WorkerStatus): void {
    const { status, worker_id } = this.entry.view
    if (status === wanted) return
    throw new AppError('conflict', `Worker "${worker_id}" is ${status}, not ${wanted}`)
  }
}

/** A worker before anything is made. */
export function preparingWorker(request: StartWorker): Worker {
  return {
    worker_id: request.worker_id,
    session_id: request.session_id ?? null,
    task_id: request.task_id ?? null,
    status: 'preparing',
    failure: null,
    exit_code: null,
    exit_meaning: null,
    image: request.image,
    image_id: null,
    container_id: null,
    container_name: null,
    workspace: { ...workspaceView(request.workspace), path: WORKSPACE_FOLDER },
    user: null,
    home: null,
    network: { mode: request.network, id: null, name: null },
    ports: {},
    memory_limit_bytes: memoryBytes(request),
    cpu_limit: request.cpu_limit,
    pids_limit: request.pids_limit,
    credentials: request.credentials,
    restarts: 0,
    refreshes: 0,
    created_at: timestamp(),
    started_at: null,
    ready_at: null,
    stopped_at: null,
    refreshed_at: null,
    labels: request.labels,
  }
}

function workspaceView(workspace: Workspace | undefined): Pick<Worker['workspace'], 'kind' | 'source'> {
  if (workspace === undefined) return { kind: 'none', source: null }
  if ('host_path' in workspace) return { kind: 'host_path', source: workspace.host_path }
  if ('volume' in workspace) return { kind: 'volume', source: workspace.volume }
  return { kind: 'git_worktree', source: workspace.git_worktree.path }
}
