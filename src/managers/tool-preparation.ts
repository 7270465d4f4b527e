import type { ExecuteTool } from '../domain/tool.ts'
import type { MountSpec, NetworkAttachment } from '../engine/spec.ts'
import type { Profile } from '../policy/profiles.ts'
import type { VolumeDecision } from '../policy/volumes.ts'
import { requireWorkingDir } from '../policy/working-dir.ts'
import type { EgressManager } from './egress-manager.ts'
import type { ImageManager, ResolvedImage } from './image-manager.ts'
import type { LoopbackOnly } from './loopback-only.ts'
import type { NetworkManager } from './network-manager.ts'
import type { Toolbox } from './toolbox.ts'
import type { VolumeResolver } from './volume-resolver.ts'
import { type FolderPlan, folderMounts, needsOpenFolders, planFolders } from './writable-folders.ts'

export interface ToolPreparationDeps {
  networks: NetworkManager
  egress: EgressManager
  images: ImageManager
  volumes: VolumeResolver
  toolbox: Toolbox
  loopback: LoopbackOnly
}

/** What policy decided about a request before it was accepted. */
export interface ToolDecision {
  profile: Profile
  volumes: readonly VolumeDecision[]
}

/** All that a tool's container is created from. */
export interface PreparedTool {
  image: ResolvedImage
  network: NetworkAttachment
  mounts: MountSpec[]
  folders: FolderPlan
  /** Volumes of this run alone, beside its container's anonymous ones. */
  ownVolumes: string[]
}

async function attachmentOf(
  { egress, loopback, networks }: ToolPreparationDeps,
  { network_mode, session_id }: ExecuteTool,
  profile: Profile,
): Promise<NetworkAttachment> {
  if (network_mode === 'none') return loopback.attachment(profile)
  if (network_mode === 'bridge') return { mode: 'bridge' }
  const network = await (network_mode === 'egress' ? egress.ensure(session_id, profile) : networks.ensure(session_id))
  return { mode: 'network', networkId: network.id, aliases: [] }
}

/** Image, network, volumes and folders, side by side. */
export async function prepareTool(
  deps: ToolPreparationDeps,
  request: ExecuteTool,
  { volumes, profile }: ToolDecision,
  run: { id: string; nonce: string; owner: string | null },
  signal: AbortSignal,
): Promise<PreparedTool> {
  const session = request.session_id
  const [image, network, volumeMounts] = await Promise.all([
    deps.images.resolve(request, { session, owner: run.owner }, signal),
    attachmentOf(deps, request, profile),
    deps.volumes.within(profile.hostRoots).resolve(volumes, { session, open: profile.user !== undefined }),
  ])
  requireWorkingDir(image)
  signal.throwIfAborted()
  const folders = planFolders(request, volumeMounts)
  const sources = new Map<string, string>()
  if (needsOpenFolders(profile.user ?? image.user)) {
    folders.folders.forEach((folder, index) => {
      sources.set(folder, `run_${run.id}_${index}`)
    })
  }
  const ownVolumes = [...sources.values()]
  await Promise.all(ownVolumes.map((name) => deps.toolbox.openVolume(name, { id: run.id, nonce: run.nonce, session })))
  const mounts = [...volumeMounts, ...folderMounts(folders, sources)]
  // What a caller mounts there is the container's own file of hosts.
  const hasHosts = mounts.some(({ target }) => target === '/etc/hosts')
  return {
    image,
    network: hasHosts && network.mode === 'none' ? { mode: 'none' } : network,
    mounts,
    folders,
    ownVolumes,
  }
}
