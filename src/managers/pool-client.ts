/** What a run does with a container of the pool: finds which would fit, fits it out, and tells what came of it. */
import type { ExecuteTool } from '../domain/tool.ts'
import type { ContainerState, Containers, Engine } from '../engine/engine.ts'
import { messageOf } from '../errors.ts'
import { failpoint } from '../failpoints.ts'
import type { Profile } from '../policy/profiles.ts'
import { toolEnvironment } from '../policy/tool-environment.ts'
import { requireWorkingDir } from '../policy/working-dir.ts'
import type { ArtifactCollector } from './artifact-collector.ts'
import { argvOf, type HandOff } from './hand-off.ts'
import type { ImageManager, ResolvedImage } from './image-manager.ts'
import type { Log } from './log.ts'
import { containerName } from './names.ts'
import type { NetworkManager } from './network-manager.ts'
import type { OutputLook } from './output-folder.ts'
import type { ParkedContainer } from './parked-container.ts'
import { type ParkingPlan, parkingPlan } from './parking-plan.ts'
import type { PoolManager } from './pool-manager.ts'
import type { ToolEntry } from './tool-record.ts'
import { UNSTARTED_CODE, UNSTARTED_FILE } from './toolbox-programs.ts'
import { placeInputFiles, planFolders } from './writable-folders.ts'

export interface PoolClientDeps {
  engine: Engine
  networks: NetworkManager
  images: ImageManager
  collector: ArtifactCollector
  pool: PoolManager
  log: Log
}

/** A tool that ends in this time goes by the name of the parked container. */
const RENAME_AFTER_MS = 50

/** A kind of parked container that would fit a run. */
export interface Place {
  plan: ParkingPlan
  image: ResolvedImage
}

/**
 * Which parked container a run could have; undefined where it needs one of its own, or where its image is
 * not on the engine. Makes nothing.
 */
export async function placeFor(
  { images, pool }: PoolClientDeps,
  request: ExecuteTool,
  profile: Profile,
  { sessionId, owner }: Pick<ToolEntry, 'sessionId' | 'owner'>,
): Promise<Place | undefined> {
  if (!pool.isOn) return undefined
  const image = await images.present(request, { session: sessionId, owner })
  if (image === undefined) return undefined
  requireWorkingDir(image)
  const plan = parkingPlan(request, image, profile)
  return plan && { plan, image }
}

/** Takes a parked container into the run's network, and puts its files in; answers what /output looks like then. */
export async function fitOut(
  { collector, engine, networks }: PoolClientDeps,
  { containerId, outputBefore }: ParkedContainer,
  request: ExecuteTool,
  signal: AbortSignal,
): Promise<OutputLook> {
  const folders = planFolders(request, [])
  const join = async () => {
    if (request.network_mode !== 'session') return
    const network = await networks.ensure(request.session_id)
    await engine.networks.connect(network.id, containerId, [])
  }
  await Promise.all([join(), placeInputFiles(engine.containers, containerId, folders, signal)])
  failpoint('pool.fitted_out')
  return folders.files.length === 0 ? outputBefore : collector.outputBefore(containerId)
}

export function handOffOf(request: ExecuteTool, executionId: string, image: ResolvedImage): HandOff {
  return {
    environment: toolEnvironment(request, executionId),
    argv: argvOf(request, image),
    stdin: request.stdin,
  }
}

/** Gives a container that was parked the name of its run: what lists containers shows whose it is. Never rejects. */
export async function renameForRun(
  { engine, log }: Pick<PoolClientDeps, 'engine' | 'log'>,
  containerId: string,
  run: ToolEntry,
): Promise<void> {
  try {
    await engine.containers.rename(containerId, containerName('tool', run.name, run.sessionId, run.id))
  } catch (error) {
    // It may have ended and gone by then.
    log.debug(
      { event: 'pool.not_renamed', container_id: containerId, error: messageOf(error) },
      'a container kept its name',
    )
  }
}

/**
 * Renames it a moment after its tool begins, for which the engine would hold the container otherwise: a tool that
 * ends before is not kept waiting for a name. Answers what keeps it from that.
 */
export function renameSoon(
  deps: Pick<PoolClientDeps, 'engine' | 'log'>,
  containerId: string,
  run: ToolEntry,
): () => void {
  const timer = setTimeout(() => void renameForRun(deps, containerId, run), RENAME_AFTER_MS).unref()
  return () => clearTimeout(timer)
}

/**
 * True where a parked container ended before it was told all of what to run: then nothing of it has run.
 * By its mark alone: clocks, of which the engine may have another, would have a tool run twice.
 */
export async function wasNeverHandedOver(
  containers: Containers,
  { id, exitCode }: Pick<ContainerState, 'id' | 'exitCode'>,
): Promise<boolean> {
  return exitCode === UNSTARTED_CODE && (await containers.statPath(id, UNSTARTED_FILE)) !== undefined
}
