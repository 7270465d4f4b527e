/**
 * Records in the place of those that were lost with a store, from what containers bear and what the
 * engine tells of them: pure. What was asked for is lost: a request with defaults stands in its place,
 * marked as rebuilt, with the limits that the engine knows.
 */
import { posix } from 'node:path'
import { Name, timestamp } from '../domain/common.ts'
import { StartRelic } from '../domain/relic.ts'
import { ExecuteTool } from '../domain/tool.ts'
import { StartWorker, type Workspace } from '../domain/worker-spec.ts'
import type { ContainerLimits, ContainerState, MountedPath } from '../engine/engine.ts'
import { isReservedLabel, type Labels, type Ownership } from '../labels.ts'
import { exitMeaning } from '../policy/exit-codes.ts'
import { workerVolumeName } from '../policy/volumes.ts'
import { WORKSPACE_FOLDER } from '../policy/worker-policy.ts'
import { madeAt } from './names.ts'
import { preparingRelic } from './relic-manager.ts'
import type { RelicEntry } from './relic-record.ts'
import { queuedRun } from './tool-manager.ts'
import type { ToolEntry } from './tool-record.ts'
import { preparingWorker, type WorkerEntry } from './worker-record.ts'

/** A container whose record is lost. */
export interface FoundContainer {
  owner: Ownership & { name: string }
  state: ContainerState
  /** Of its image: a container bears these beside its own. */
  imageLabels: Labels
  /** Session networks, by id. */
  sessionNetworks: ReadonlySet<string>
}

const MIB = 1024 * 1024
const ID = /^(exec|relic|worker)_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** True for an owner that this service can have written: its id becomes a path, its names are names. */
export function isRebuildable(owner: Ownership): owner is Ownership & { name: string } {
  const names = [owner.name, ...(owner.session === undefined ? [] : [owner.session])]
  return ID.test(owner.id) && names.every((name) => Name.safeParse(name).success)
}

/**
 * A run that was started: it is taken over, and ends as it would have. One that has ended keeps its
 * container, as it may have been asked to; one that never started cannot be started any more.
 */
export function rebuiltTool(found: FoundContainer): ToolEntry {
  const { owner, state } = found
  const request = ExecuteTool.parse({
    tool_name: owner.name,
    session_id: sessionOf(owner),
    image: state.imageId,
    resource_limits: { ...cpuOf(state.limits), ...memoryOf(state.limits), ...pidsOf(state.limits, 4) },
    cleanup: isUp(state),
  })
  const status = state.startedAt === undefined ? 'preparing' : 'running'
  return {
    ...entryOf(found),
    status,
    request: { ...request, rebuilt: true },
    view: {
      ...queuedRun(owner.id, request, owner.owner ?? null),
      status,
      image: null,
      image_id: state.imageId,
      container_id: state.id,
      queued_at: acceptedAt(found),
      started_at: optionalTimestamp(state.startedAt),
      labels: callersLabels(found),
    },
  }
}

/** A relic as healthy as it runs: where it could be asked is lost. One that does not run is stopped. */
export function rebuiltRelic(found: FoundContainer): RelicEntry {
  const { owner, state } = found
  const request = StartRelic.parse({
    relic_name: owner.name,
    session_id: sessionOf(owner),
    image: state.imageId,
    health_check_endpoint: null,
    resource_limits: { ...cpuOf(state.limits), ...memoryOf(state.limits), ...pidsOf(state.limits, 4) },
  })
  const status = state.startedAt === undefined ? 'starting' : isUp(state) ? 'healthy' : 'stopped'
  const network = state.networks.find(({ networkId }) => found.sessionNetworks.has(networkId))
  return {
    ...entryOf(found),
    status,
    request: { ...request, rebuilt: true },
    view: {
      ...preparingRelic(owner.id, request),
      status,
      network: network === undefined ? null : { id: network.networkId, name: network.networkName },
      container_id: state.id,
      container_name: state.name,
      image: null,
      image_id: state.imageId,
      created_at: acceptedAt(found),
      started_at: optionalTimestamp(state.startedAt),
      healthy_at: optionalTimestamp(state.startedAt),
      stopped_at: status === 'stopped' ? optionalTimestamp(state.finishedAt) : null,
      labels: callersLabels(found),
    },
  }
}

/** A worker that runs, or stays stopped: what it was given at its start is lost, so it is not started again. */
export function rebuiltWorker(found: FoundContainer, workspace: Workspace | undefined): WorkerEntry {
  const { owner, state } = found
  const network = networkOf(found)
  const request = rebuiltWorkerRequest(owner, {
    image: state.imageId,
    workspace,
    network: network.mode,
    ...(memoryOf(state.limits) === undefined ? {} : { memory_limit: `${memoryOf(state.limits)?.memory_mb}m` }),
    ...cpuOf(state.limits),
    ...pidsOf(state.limits, 16),
  })
  const runs = state.status === 'paused' ? 'paused' : isUp(state) ? 'running' : 'stopped'
  const status = state.startedAt === undefined ? 'starting' : runs
  const end = { exit_code: state.exitCode, exit_meaning: exitMeaning(state, request.exit_codes) }
  return {
    ...entryOf(found),
    status,
    request,
    view: {
      ...preparingWorker(request),
      status,
      ...(status === 'stopped' ? { ...end, stopped_at: optionalTimestamp(state.finishedAt) } : {}),
      image_id: state.imageId,
      container_id: state.id,
      container_name: state.name,
      user: /^\d+:\d+$/.test(state.user) ? state.user : null,
      network,
      created_at: acceptedAt(found),
      started_at: optionalTimestamp(state.startedAt),
      ready_at: optionalTimestamp(state.startedAt),
      labels: callersLabels(found),
    },
  }
}

/** A worker of which only volumes are left: they are kept for the next one of its name. */
export function rebuiltWorkerOfVolumes(id: string, owner: Ownership & { name: string }): WorkerEntry {
  const request = rebuiltWorkerRequest(owner, { image: 'lost' })
  return {
    id,
    sessionId: owner.session ?? '',
    owner: owner.owner ?? null,
    name: owner.name,
    status: 'failed',
    live: false,
    containerId: null,
    nonce: owner.nonce,
    request,
    view: {
      ...preparingWorker(request),
      status: 'failed',
      failure: {
        code: 'lost',
        message: 'Its record was lost with the store, and it has no container',
        hint: 'Start it anew: its volumes are kept.',
      },
      stopped_at: timestamp(),
    },
  }
}

/**
 * The workspace that a worker's mounts tell of: undefined for one of its own. `toLocal` names a path of
 * the engine's host as we see it, `volumeName` a volume as its caller did.
 */
export function rebuiltWorkspace(
  { instance, worker }: { instance: string; worker: string },
  mounts: readonly MountedPath[],
  { toLocal, volumeName }: { toLocal: (path: string) => string; volumeName: (volume: string) => string },
): Workspace | undefined {
  const mounted = mounts.find(({ target }) => target === WORKSPACE_FOLDER)
  if (mounted === undefined) return undefined
  if (mounted.volume !== undefined) {
    if (mounted.volume === workerVolumeName(instance, worker, 'workspace')) return undefined
    return { volume: volumeName(mounted.volume) }
  }
  const repository = sharedRepositoryIn(mounts)
  const path = toLocal(mounted.source)
  if (repository === undefined) return { host_path: path }
  return { git_worktree: { path, repository: toLocal(repository) } }
}

/** What a worktree shares with its repository is mounted with its hooks and the worktree's own folder. */
function sharedRepositoryIn(mounts: readonly MountedPath[]): string | undefined {
  const sources = new Set(mounts.map(({ source }) => source))
  const own = mounts.find(({ source }) => {
    const repository = posix.dirname(posix.dirname(source))
    const isOwnFolder = posix.dirname(source) === posix.join(repository, 'worktrees')
    return isOwnFolder && sources.has(repository) && sources.has(posix.join(repository, 'hooks'))
  })
  return own && posix.dirname(posix.dirname(own.source))
}

function rebuiltWorkerRequest(owner: { name: string; session?: string | undefined }, fields: object) {
  const request = StartWorker.parse({
    worker_id: owner.name,
    session_id: owner.session,
    restart_policy: { max_retries: 0 },
    ...fields,
  })
  return { ...request, rebuilt: true as const }
}

/** Tools and relics have a session always. */
function sessionOf(owner: Ownership): string {
  if (owner.session === undefined) throw new Error(`${owner.kind} ${owner.id} bears no session`)
  return owner.session
}

function entryOf({ owner, state }: FoundContainer) {
  return {
    id: owner.id,
    sessionId: owner.session ?? '',
    owner: owner.owner ?? null,
    name: owner.name,
    live: true,
    containerId: state.id,
    nonce: owner.nonce,
  }
}

function isUp({ status }: ContainerState): boolean {
  return status === 'running' || status === 'paused' || status === 'restarting'
}

function networkOf({ state, sessionNetworks }: FoundContainer) {
  const [endpoint] = state.networks
  if (endpoint === undefined) return { mode: 'none' as const, id: null, name: 'none' }
  const { networkId: id, networkName: name } = endpoint
  if (name === 'none' || name === 'bridge') return { mode: name, id: null, name } as const
  return { mode: sessionNetworks.has(id) ? ('session' as const) : ('internal' as const), id, name }
}

/** The caller's own: neither the service's nor the image's. */
function callersLabels({ state, imageLabels }: FoundContainer): Labels & Record<string, string> {
  return Object.fromEntries(
    Object.entries(state.labels).filter(([name, value]) => !isReservedLabel(name) && imageLabels[name] !== value),
  )
}

function acceptedAt({ owner, state }: FoundContainer): string {
  const made = new Date(madeAt(owner.id))
  return timestamp(Number.isNaN(made.getTime()) ? state.createdAt : made)
}

function optionalTimestamp(date: Date | undefined): string | null {
  return date === undefined ? null : timestamp(date)
}

function memoryOf({ memoryBytes }: ContainerLimits): { memory_mb: number } | undefined {
  const memory_mb = Math.floor(memoryBytes / MIB)
  return memory_mb >= 8 && memory_mb <= 1_048_576 ? { memory_mb } : undefined
}

function cpuOf({ cpus }: ContainerLimits): { cpu_limit: number } | undefined {
  return cpus >= 0.01 && cpus <= 1024 ? { cpu_limit: cpus } : undefined
}

function pidsOf({ pids }: ContainerLimits, least: number): { pids_limit: number } | undefined {
  return pids >= least && pids <= 65_536 ? { pids_limit: pids } : undefined
}
