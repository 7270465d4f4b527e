/**
 * From a worker's request to its container: image, user, workspace, mounts, network and secrets, made
 * ready side by side where they do not need each other.
 */
import { randomUUID } from 'node:crypto'
import type { Readable } from 'node:stream'
import type { StartWorker } from '../domain/worker-spec.ts'
import type { ImageInfo } from '../engine/engine.ts'
import type { HealthcheckSpec, MountSpec, NetworkAttachment } from '../engine/spec.ts'
import { AppError } from '../errors.ts'
import type { CredentialSet } from '../policy/credentials.ts'
import { throughProxy } from '../policy/egress-proxy.ts'
import type { Profile } from '../policy/profiles.ts'
import type { VolumeDecision } from '../policy/volumes.ts'
import { identityEnvironment } from '../policy/worker-environment.ts'
import { commandForm, planWorker, WORKSPACE_FOLDER } from '../policy/worker-policy.ts'
import type { CredentialManager, CredentialOwner, Secrets } from './credential-manager.ts'
import type { DockerManager } from './docker-manager.ts'
import type { EgressManager } from './egress-manager.ts'
import type { HostPaths } from './host-paths.ts'
import type { ImageManager, ResolvedImage } from './image-manager.ts'
import type { ImageUsers } from './image-users.ts'
import { containerName } from './names.ts'
import type { ManagedNetwork, NetworkManager } from './network-manager.ts'
import { packPrivate } from './private-files.ts'
import type { Toolbox } from './toolbox.ts'
import { IDLE_COMMAND, PRIVATE_FOLDER, programPath } from './toolbox-programs.ts'
import type { VolumeResolver } from './volume-resolver.ts'
import { workerHome, workerUser } from './worker-user.ts'
import { mountWorkspace, workspaceOwner } from './worker-workspace.ts'

export interface BlueprintDeps {
  docker: DockerManager
  images: ImageManager
  imageUsers: ImageUsers
  networks: NetworkManager
  egress: EgressManager
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
  owner: string | null
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

export class WorkerBlueprint {
  readonly #deps: BlueprintDeps
  readonly #request: StartWorker
  readonly #decision: WorkerDecision

  constructor(deps: BlueprintDeps, request: StartWorker, decision: WorkerDecision) {
    this.#deps = { ...deps, volumes: deps.volumes.within(decision.profile.hostRoots) }
    this.#request = request
    this.#decision = decision
  }

  /** Creates the container, without starting it. */
  async create(identity: ContainerIdentity, signal: AbortSignal): Promise<MadeContainer> {
    const { docker, images, toolbox } = this.#deps
    const request = this.#request
    const session = request.session_id
    const [image, network, tools, hostOwner] = await Promise.all([
      images.resolve(request, { session: session ?? '', owner: identity.owner }, signal),
      this.#network(),
      toolbox.mount(),
      workspaceOwner(request.workspace, this.#deps.volumes),
    ])
    signal.throwIfAborted()
    const { profile } = this.#decision
    const user = await workerUser(request, profile, { image, hostOwner }, this.#deps.imageUsers)
    const home = workerHome(request, image, user)
    const workspace = await mountWorkspace(request, user.uid !== 0, this.#deps)
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
    const plan = planWorker(request, profile, {
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
      owner: {
        kind: 'worker',
        id: identity.recordId,
        session,
        owner: identity.owner ?? undefined,
        name: request.worker_id,
        nonce: identity.nonce,
      },
      containerName: name,
      imageId: image.id,
      plan: request.network === 'egress' ? throughProxy(plan, profile.name) : plan,
      network: network.attachment,
      labels: request.labels,
    })
    try {
      await this.#deps.credentials.fill(id, credentials.fresh, owner)
    } catch (error) {
      // A copy that was not made whole is made anew the next time.
      await docker.remove(id)
      await Promise.all(credentials.fresh.map(({ volume }) => this.#deps.volumes.removeVolume(volume)))
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
    return [start, 'open', ...(whole.length > 0 ? whole : IDLE_COMMAND)]
  }

  #managedNetwork(): Promise<ManagedNetwork> {
    const { egress, networks } = this.#deps
    const { network: mode, session_id: session } = this.#request
    if (mode === 'internal') return networks.ensureInternal()
    if (session === undefined) throw new Error('a session network was asked for without a session')
    return mode === 'egress' ? egress.ensure(session, this.#decision.profile) : networks.ensure(session)
  }

  async #network(): Promise<{ attachment: NetworkAttachment; view: MadeContainer['network'] }> {
    const { network: mode, worker_id: worker } = this.#request
    if (mode === 'none' || mode === 'bridge') return { attachment: { mode }, view: { mode, id: null, name: mode } }
    const network = await this.#managedNetwork()
    const aliases = mode === 'internal' ? [] : [worker]
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
