/**
 * From a worker's request to its container: image, user, workspace, mounts, network and secrets, made
 * ready side by side where they do not need each other.
 */
import { randomUUID } from 'node:crypto'
import { stat } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import type { StartWorker, Workspace } from '../domain/worker.ts'
import type { ImageInfo } from '../engine/engine.ts'
import type { HealthcheckSpec, MountSpec, NetworkAttachment } from '../engine/spec.ts'
import { AppError } from '../errors.ts'
import type { CredentialSet } from '../policy/credentials.ts'
import type { Profile } from '../policy/profiles.ts'
import type { VolumeDecision } from '../policy/volumes.ts'
import { identityEnvironment, type WorktreeFolders } from '../policy/worker-environment.ts'
import { commandForm, planWorker, WORKSPACE_FOLDER } from '../policy/worker-policy.ts'
import type { CredentialManager, CredentialOwner, Secrets } from './credential-manager.ts'
import type { DockerManager } from './docker-manager.ts'
import { readWorktree } from './git-worktree.ts'
import type { HostPaths } from './host-paths.ts'
import type { ImageManager, ResolvedImage } from './image-manager.ts'
import type { ImageUsers, NumericUser } from './image-users.ts'
import { containerName } from './names.ts'
import type { NetworkManager } from './network-manager.ts'
import { packPrivate } from './private-files.ts'
import type { Toolbox } from './toolbox.ts'
import { PRIVATE_FOLDER, programPath } from './toolbox-programs.ts'
import type { VolumeResolver } from './volume-resolver.ts'

export interface BlueprintDeps {
  docker: DockerManager
  images: ImageManager
  imageUsers: ImageUsers
  networks: NetworkManager
  volumes: VolumeResolver
  hostPaths: HostPaths
  credentials: CredentialManager
  toolbox: Toolbox
  environmentPrefixes: readonly string[]
}

export interface WorkerDecision {
  profile: Profile
  volumes: readonly VolumeDecision[]
  credentials: readonly CredentialSet[]
}

/** Which container this is to be. */
export interface ContainerIdentity {
  recordId: string
  nonce: string
}

export interface MadeContainer {
  id: string
  name: string
  image: ResolvedImage
  /** `uid:gid`. */
  user: string
  home: string
  network: { mode: StartWorker['network']; id: string | null; name: string | null }
}

/** For workspaces that no host folder and no image gives a user. */
const DEFAULT_USER = '1000:1000'
const DEFAULT_HOME = '/home/worker'
/** Name of the volume that a worker without a workspace of the caller's has. */
const OWN_WORKSPACE = 'workspace'
/** What a worker does whose image has no command. */
const IDLE = ['/.toolbox/busybox', 'tail', '-f', '/dev/null']

interface WorkspaceMounts {
  mounts: MountSpec[]
  worktree: WorktreeFolders | undefined
}

/** Refuses a workspace that cannot be mounted, before anything is made. */
export async function checkWorkspace(
  workspace: Workspace | undefined,
  { volumes, hostPaths }: Pick<BlueprintDeps, 'volumes' | 'hostPaths'>,
): Promise<void> {
  if (workspace === undefined || 'volume' in workspace) return
  const allowed = (path: string) => volumes.allowedHostPath(path)
  if ('host_path' in workspace) {
    const path = await allowed(workspace.host_path)
    if ((await stat(path)).isDirectory()) return
    throw new AppError('validation_failed', `workspace.host_path: "${workspace.host_path}" is not a folder`)
  }
  await readWorktree(workspace.git_worktree, hostPaths, allowed)
}

export class WorkerBlueprint {
  readonly #deps: BlueprintDeps
  readonly #request: StartWorker
  readonly #decision: WorkerDecision

  constructor(deps: BlueprintDeps, request: StartWorker, decision: WorkerDecision) {
    this.#deps = deps
    this.#request = request
    this.#decision = decision
  }

  /** Creates the container, without starting it. */
  async create(identity: ContainerIdentity, signal: AbortSignal): Promise<MadeContainer> {
    const { docker, images, toolbox } = this.#deps
    const request = this.#request
    const session = request.session_id
    const [image, network, tools, hostOwner] = await Promise.all([
      images.resolve(request, session ?? '', signal),
      this.#network(),
      toolbox.mount(),
      this.#hostOwner(),
    ])
    signal.throwIfAborted()
    const user = await this.#user(image, hostOwner)
    const home = this.#home(image, user)
    const workspace = await this.#workspace(user.uid !== 0)
    const owner: CredentialOwner = { worker: request.worker_id, session, home, uid: user.uid, gid: user.gid }
    const [further, credentials] = await Promise.all([
      this.#deps.volumes.resolve(this.#decision.volumes, {
        session,
        worker: request.worker_id,
        open: user.uid !== 0,
      }),
      this.#deps.credentials.mounts(this.#decision.credentials, owner),
    ])
    const mounts = distinct([...workspace.mounts, ...further, ...credentials.mounts, tools])
    signal.throwIfAborted()
    const name = containerName('worker', request.worker_id, session ?? '', identity.nonce)
    const plan = planWorker(request, this.#decision.profile, {
      argv: this.#argv(image),
      environment: {
        HOME: home,
        ...identityEnvironment(
          { workerId: request.worker_id, taskId: request.task_id, sessionId: session },
          workspace.worktree,
          this.#deps.environmentPrefixes,
        ),
        // Git reads it last, below the image's own user's and the repository's.
        GIT_CONFIG_SYSTEM: `${PRIVATE_FOLDER}/gitconfig`,
      },
      user,
      home,
      privateFolder: PRIVATE_FOLDER,
      mounts,
      healthcheck: healthcheckOf(request),
    })
    const id = await docker.create({
      owner: { kind: 'worker', id: identity.recordId, session, name: request.worker_id, nonce: identity.nonce },
      containerName: name,
      imageId: image.id,
      plan,
      network: network.attachment,
      labels: request.labels,
    })
    try {
      await this.#deps.credentials.fill(id, credentials.fresh, owner)
    } catch (error) {
      await docker.remove(id)
      throw error
    }
    return { id, name, image, user: `${user.uid}:${user.gid}`, home, network: network.view }
  }

  /** What the first process takes from its stdin, with the secrets as they are now. */
  async privateTar(home: string): Promise<Readable> {
    const secrets: Secrets = await this.#deps.credentials.secrets(this.#decision.credentials, home)
    return packPrivate({
      variables: { ...secrets.variables, ...this.#request.environment },
      files: [...secrets.files, { name: 'gitconfig', content: gitConfig(this.#request.worker_id), mode: 0o644 }],
      placed: secrets.placed,
    })
  }

  /** The worker's own command, or the image's, held by a stdin that stays open. */
  #argv(image: ImageInfo): string[] {
    const { command, entrypoint } = this.#request
    const start = programPath('worker-start')
    if (typeof command === 'string') {
      return [start, 'closed', programPath('worker-exec'), WORKSPACE_FOLDER, '', ...commandForm(command)]
    }
    const program = entrypoint ?? image.entrypoint
    if (command !== undefined) return [start, 'closed', ...program, ...command]
    const whole = [...program, ...(entrypoint === undefined ? image.command : [])]
    return [start, 'open', ...(whole.length > 0 ? whole : IDLE)]
  }

  /** Whose the workspace's folder on the host is. */
  async #hostOwner(): Promise<{ uid: number; gid: number } | undefined> {
    const { workspace } = this.#request
    const path =
      workspace === undefined || 'volume' in workspace
        ? undefined
        : 'host_path' in workspace
          ? workspace.host_path
          : workspace.git_worktree.path
    if (path === undefined) return undefined
    const { uid, gid } = await stat(await this.#deps.volumes.allowedHostPath(path))
    return { uid, gid }
  }

  /**
   * The profile's user, the request's, the owner of the workspace's folder (so that it can work there
   * and its files are the owner's), the image's where that is not root, or 1000.
   */
  async #user(image: ImageInfo, hostOwner: { uid: number; gid: number } | undefined): Promise<NumericUser> {
    const { imageUsers } = this.#deps
    const forced = this.#decision.profile.user
    if (forced !== undefined) return imageUsers.resolve(image, forced)
    if (this.#request.user !== undefined) {
      const asked = await imageUsers.resolve(image, this.#request.user)
      if (asked.uid !== 0 || hostOwner?.uid === 0) return asked
      throw new AppError('policy_denied', 'A worker does not run as root', {
        hint: 'Leave "user" out, or name another. Only on a workspace that is root\'s does a worker run as root, without capabilities.',
      })
    }
    if (hostOwner !== undefined) return imageUsers.resolve(image, `${hostOwner.uid}:${hostOwner.gid}`)
    const own = image.user === '' ? undefined : await imageUsers.resolve(image, image.user)
    return own !== undefined && own.uid !== 0 ? own : imageUsers.resolve(image, DEFAULT_USER)
  }

  #home(image: ImageInfo, user: NumericUser): string {
    const given = this.#request.environment['HOME']
    if (given?.startsWith('/')) return given
    const ofImage = image.environment.find((entry) => entry.startsWith('HOME=/'))?.slice('HOME='.length)
    return user.home ?? ofImage ?? DEFAULT_HOME
  }

  async #workspace(open: boolean): Promise<WorkspaceMounts> {
    const { volumes, hostPaths } = this.#deps
    const { session_id: session, worker_id: worker, workspace } = this.#request
    if (workspace !== undefined && 'git_worktree' in workspace) {
      const allowed = (path: string) => volumes.allowedHostPath(path)
      const { mounts, folders } = await readWorktree(workspace.git_worktree, hostPaths, allowed)
      const binds = mounts.map(({ source, target, readOnly }): MountSpec => {
        return { type: 'bind', source: hostPaths.toEngine(source), target, readOnly }
      })
      return { mounts: binds, worktree: folders }
    }
    if (workspace !== undefined && 'host_path' in workspace) {
      const source = hostPaths.toEngine(await volumes.allowedHostPath(workspace.host_path))
      const mount: MountSpec = { type: 'bind', source, target: WORKSPACE_FOLDER, readOnly: false }
      return { mounts: [mount], worktree: undefined }
    }
    // The engine would give an empty volume the mode of the working directory that it makes, which is root's.
    const mount = { target: WORKSPACE_FOLDER, readOnly: false }
    if (workspace === undefined) {
      const { name } = await volumes.workerVolume(OWN_WORKSPACE, { worker, session, open })
      return { mounts: [{ type: 'volume', source: name, keepAsIs: true, ...mount }], worktree: undefined }
    }
    const [decision] = volumes.decide([{ source: workspace.volume, target: WORKSPACE_FOLDER, read_only: false }])
    if (decision === undefined) throw new Error('a volume was decided to nothing')
    const [resolved] = await volumes.resolve([decision], { session, worker, open })
    if (resolved?.type !== 'volume') throw new Error('a named volume was resolved to something else')
    return { mounts: [{ ...resolved, keepAsIs: true }], worktree: undefined }
  }

  async #network(): Promise<{ attachment: NetworkAttachment; view: MadeContainer['network'] }> {
    const { networks } = this.#deps
    const { network: mode, session_id: session, worker_id: worker } = this.#request
    if (mode === 'none' || mode === 'bridge') return { attachment: { mode }, view: { mode, id: null, name: mode } }
    if (mode === 'session' && session === undefined)
      throw new Error('a session network was asked for without a session')
    const network =
      session !== undefined && mode === 'session' ? await networks.ensure(session) : await networks.ensureInternal()
    const aliases = mode === 'session' ? [worker] : []
    return {
      attachment: { mode: 'network', networkId: network.id, aliases },
      view: { mode, id: network.id, name: network.name },
    }
  }
}

/** A new attempt's mark. */
export function newNonce(): string {
  return randomUUID()
}

function healthcheckOf({ healthcheck }: StartWorker): HealthcheckSpec | undefined {
  if (healthcheck === undefined) return undefined
  const { command, interval_seconds, timeout_seconds, retries } = healthcheck
  return {
    command: [programPath('worker-exec'), WORKSPACE_FOLDER, '', ...commandForm(command)],
    intervalSeconds: interval_seconds,
    timeoutSeconds: timeout_seconds,
    retries,
  }
}

/**
 * Git's defaults inside: the workspace may belong to another user, commits have a name where nobody
 * gives one, and no worktree that is not visible inside is cleaned away.
 */
function gitConfig(workerId: string): string {
  return `[include]
	path = /etc/gitconfig
[safe]
	directory = *
[gc]
	worktreePruneExpire = never
[user]
	name = ${workerId}
	email = ${workerId}@localhost
`
}

function distinct(mounts: readonly MountSpec[]): readonly MountSpec[] {
  const targets = new Set<string>()
  for (const { target } of mounts) {
    if (targets.has(target)) {
      const message = `two things would be mounted at ${target}`
      throw new AppError('validation_failed', `volumes: ${message}`, { errors: [{ path: 'volumes', message }] })
    }
    targets.add(target)
  }
  return mounts
}
