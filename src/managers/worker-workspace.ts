/** What is mounted at /workspace: a host folder, a git worktree, a named volume, or a volume of the worker's own. */
import { stat } from 'node:fs/promises'
import type { StartWorker, Workspace } from '../domain/worker-spec.ts'
import type { MountSpec } from '../engine/spec.ts'
import { AppError } from '../errors.ts'
import { isBeneath, type VolumeDecision } from '../policy/volumes.ts'
import type { WorktreeFolders } from '../policy/worker-environment.ts'
import { WORKSPACE_FOLDER } from '../policy/worker-policy.ts'
import { type GitWorktree, readWorktree } from './git-worktree.ts'
import type { HostPaths } from './host-paths.ts'
import type { VolumeResolver } from './volume-resolver.ts'

export interface WorkspaceDeps {
  volumes: VolumeResolver
  hostPaths: HostPaths
}

export interface WorkspaceMounts {
  /** Outer before inner. */
  mounts: readonly MountSpec[]
  /** Where git's files are inside, for a worktree. */
  worktree: WorktreeFolders | undefined
}

/** Name of the volume that a worker without a workspace of the caller's has. */
const OWN_WORKSPACE = 'workspace'

/**
 * Claims what a workspace mounts of the host (see `VolumeResolver.claim`), and refuses one that cannot be
 * mounted: before anything is made.
 */
export async function claimWorkspace(
  owner: string,
  workspace: Workspace | undefined,
  deps: WorkspaceDeps,
  options: { instead?: string | undefined },
): Promise<void> {
  if (workspace === undefined || 'volume' in workspace) return
  const { volumes } = deps
  if ('git_worktree' in workspace) {
    const { path, repository } = workspace.git_worktree
    volumes.holdToLook(owner, [path, repository], options)
    const { mounts } = await worktreeOf(workspace.git_worktree, deps)
    volumes.hold(owner, mounts, options)
    return
  }
  volumes.holdToLook(owner, [workspace.host_path], options)
  const path = await volumes.allowedHostPath(workspace.host_path)
  volumes.hold(owner, [{ source: path, target: WORKSPACE_FOLDER, readOnly: false }], options)
  if ((await stat(path)).isDirectory()) return
  throw new AppError('validation_failed', `workspace.host_path: "${workspace.host_path}" is not a folder`)
}

/**
 * Refuses (`validation_failed`) a host folder that lies in another one that the worker can write to: it
 * could put a link in its place, which the engine would follow at the next start.
 */
export async function requireApart(
  workspace: Workspace | undefined,
  decisions: readonly VolumeDecision[],
  volumes: VolumeResolver,
): Promise<void> {
  const asked = decisions.filter(({ type }) => type === 'host').map(({ source, readOnly }) => ({ source, readOnly }))
  if (workspace !== undefined && !('volume' in workspace)) {
    const source = 'host_path' in workspace ? workspace.host_path : workspace.git_worktree.path
    asked.push({ source, readOnly: false })
  }
  const folders = await Promise.all(
    asked.map(async ({ source, readOnly }) => ({ path: await volumes.allowedHostPath(source), readOnly })),
  )
  for (const { path } of folders) {
    const outer = folders.find((other) => !other.readOnly && other.path !== path && isBeneath(path, other.path))
    if (outer === undefined) continue
    const message = `"${path}" lies in "${outer.path}", which the worker can write to`
    throw new AppError('validation_failed', `volumes: ${message}`, {
      errors: [{ path: 'volumes', message }],
      hint: 'Mount folders that lie beside each other.',
    })
  }
}

/** Whose the workspace's folder on the host is; undefined where it has none. */
export async function workspaceOwner(
  workspace: Workspace | undefined,
  volumes: VolumeResolver,
): Promise<{ uid: number; gid: number } | undefined> {
  if (workspace === undefined || 'volume' in workspace) return undefined
  const path = 'host_path' in workspace ? workspace.host_path : workspace.git_worktree.path
  const { uid, gid } = await stat(await volumes.allowedHostPath(path))
  return { uid, gid }
}

/** The folder of git's that a worktree shares with its main repository, as we see it. */
export async function sharedRepository(
  workspace: Workspace | undefined,
  deps: WorkspaceDeps,
): Promise<string | undefined> {
  if (workspace === undefined || !('git_worktree' in workspace)) return undefined
  return (await worktreeOf(workspace.git_worktree, deps)).repository
}

/** The mounts of a worker's workspace; volumes are made where they are missing, `open` to any user. */
export async function mountWorkspace(
  request: StartWorker,
  open: boolean,
  deps: WorkspaceDeps,
): Promise<WorkspaceMounts> {
  const { volumes, hostPaths } = deps
  const { session_id: session, worker_id: worker, workspace } = request
  const bind = (source: string, target: string, readOnly: boolean): MountSpec => ({
    type: 'bind',
    source: hostPaths.toEngine(source),
    target,
    readOnly,
  })
  if (workspace !== undefined && 'git_worktree' in workspace) {
    const { mounts, folders } = await worktreeOf(workspace.git_worktree, deps)
    return {
      mounts: mounts.map(({ source, target, readOnly }) => bind(source, target, readOnly)),
      worktree: folders,
    }
  }
  if (workspace !== undefined && 'host_path' in workspace) {
    const source = await volumes.allowedHostPath(workspace.host_path)
    return { mounts: [bind(source, WORKSPACE_FOLDER, false)], worktree: undefined }
  }
  const source =
    workspace === undefined
      ? (await volumes.workerVolume(OWN_WORKSPACE, { worker, session, open })).name
      : await volumes.namedVolume(workspace.volume, { worker, session, open })
  // The engine would give an empty volume the mode of the working directory that it makes, which is root's.
  const mount: MountSpec = { type: 'volume', source, target: WORKSPACE_FOLDER, readOnly: false, keepAsIs: true }
  return { mounts: [mount], worktree: undefined }
}

function worktreeOf(
  worktree: { path: string; repository: string },
  { volumes, hostPaths }: WorkspaceDeps,
): Promise<GitWorktree> {
  return readWorktree(worktree, hostPaths, (path) => volumes.allowedHostPath(path))
}
