import type { ExecuteTool } from '../domain/tool.ts'
import type { MountSpec, NetworkAttachment } from '../engine/spec.ts'
import type { Profile } from '../policy/profiles.ts'
import type { VolumeDecision } from '../policy/volumes.ts'
import { requireWorkingDir } from '../policy/working-dir.ts'
import type { EgressManager } from './egress-manager.ts'
import type { ImageManager, ResolvedImage } from './image-manager.ts'
import type { NetworkManager, SessionNetwork } from './network-manager.ts'
import type { Toolbox } from './toolbox.ts'
import type { VolumeResolver } from './volume-resolver.ts'
import { type FolderPlan, folderMounts, needsOpenFolders, planFolders } from './writable-folders.ts'

export interface ToolPreparationDeps {
  networks: NetworkManager
  egress: EgressManager
  images: ImageManager
  volumes: VolumeResolver
  toolbox: Toolbox
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

function sessionNetwork(
  { egress, networks }: ToolPreparationDeps,
  { network_mode, session_id }: ExecuteTool,
  profile: Profile,
): Promise<SessionNetwork | undefined> {
  if (network_mode === 'egress') return egress.ensure(session_id, profile)
  return network_mode === 'session' ? networks.ensure(session_id) : Promise.resolve(undefined)
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
    sessionNetwork(deps, request, profile),
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
  return {
    image,
    network:
      network === undefined
        ? { mode: request.network_mode === 'bridge' ? 'bridge' : 'none' }
        : { mode: 'network', networkId: network.id, aliases: [] },
    mounts: [...volumeMounts, ...folderMounts(folders, sources)],
    folders,
    ownVolumes,
  }
}
