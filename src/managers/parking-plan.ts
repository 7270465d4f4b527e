/** What a parked container is to be, so that it can become a request's tool later: pure. */
import { createHash } from 'node:crypto'
import type { ExecuteTool } from '../domain/tool.ts'
import type { ImageInfo } from '../engine/engine.ts'
import type { MountSpec } from '../engine/spec.ts'
import type { Labels } from '../labels.ts'
import { type ContainerPlan, planParkedTool } from '../policy/container-policy.ts'
import type { Profile } from '../policy/profiles.ts'
import { toolEnvironment } from '../policy/tool-environment.ts'
import { argvOf, canHandOver } from './hand-off.ts'
import { programPath } from './toolbox-programs.ts'
import { type FolderPlan, folderMounts, needsOpenFolders, planFolders } from './writable-folders.ts'

/** All of a container that cannot change once it runs. */
export interface ParkingPlan {
  /** The same for two that are alike in all of it. */
  key: string
  imageId: string
  /** A session's network is joined at the hand-off. */
  network: 'none' | 'bridge' | 'session'
  container: ContainerPlan
  /** Folders that hold files before or after the run. */
  folders: readonly string[]
  /** Its user is not root, and could not write to fresh volumes at the folders. */
  opensFolders: boolean
  /** The caller's own. */
  labels: Labels
}

/**
 * The container for a request, to be started before the request is there; undefined where the request
 * asks for what only it can have: volumes, GPUs, a way out by a proxy, a container that stays, or
 * variables that a hand-off would change.
 */
export function parkingPlan(request: ExecuteTool, image: ImageInfo, profile: Profile): ParkingPlan | undefined {
  const { network_mode: network, labels } = request
  const isOwn = request.volumes.length > 0 || request.gpu !== undefined || network === 'egress' || !request.cleanup
  // Whatever the run's id is, it has no part in what can be handed over.
  if (isOwn || !canHandOver(toolEnvironment(request, ''), image)) return undefined
  const argv = argvOf(request, image)
  if (argv[0] === undefined || argv[0] === '' || request.entrypoint?.length === 0) return undefined
  const { folders } = planFolders(request, [])
  const opensFolders = needsOpenFolders(profile.user ?? image.user)
  const container = planParkedTool(request, profile, folderMounts({ folders, files: [] }), [programPath('tool-start')])
  const all = { imageId: image.id, network, container, opensFolders, labels: Object.entries(labels).sort() }
  const key = createHash('sha256').update(JSON.stringify(all)).digest('hex')
  return { key, imageId: image.id, network, container, folders, opensFolders, labels }
}

/** The mounts of one such container: its folders, from volumes of its own where `sources` names them. */
export function parkingMounts({ folders }: ParkingPlan, sources: ReadonlyMap<string, string>): MountSpec[] {
  const plan: FolderPlan = { folders, files: [] }
  return folderMounts(plan, sources)
}
