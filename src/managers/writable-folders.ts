/**
 * The folders of a tool that hold files before its start or after its end: anonymous volumes, since
 * a read-only root takes no files and a tmpfs is gone when its container ends.
 */
import { posix } from 'node:path'
import { Readable } from 'node:stream'
import { pack } from 'tar-stream'
import type { ExecuteTool } from '../domain/tool.ts'
import type { Containers } from '../engine/engine.ts'
import type { MountSpec } from '../engine/spec.ts'
import { AppError } from '../errors.ts'
import { isBeneath, requireMountTarget } from '../policy/volumes.ts'

export const OUTPUT_FOLDER = '/output'
const INPUT_FOLDER = '/input'

/** An input file by its absolute path. */
interface InputFile {
  path: string
  content: Buffer
}

export interface FolderPlan {
  /** Folders to be mounted; none lies in another. */
  folders: readonly string[]
  files: readonly InputFile[]
}

/** Which folders a request needs beside the mounts it names itself. Throws where one cannot be had. */
export function planFolders(request: ExecuteTool, mounts: readonly MountSpec[]): FolderPlan {
  const files = Object.entries(request.input_files).map(([name, content]) => ({
    path: posix.resolve(INPUT_FOLDER, name),
    content: typeof content === 'string' ? Buffer.from(content) : Buffer.from(content.base64, 'base64'),
  }))
  const wanted = [
    OUTPUT_FOLDER,
    ...files.map((file) => folderFor(file.path, 'input_files')),
    ...request.output_paths.map((path) => folderFor(posix.normalize(path), 'output_paths')),
  ]
  const folders = outermost(wanted).filter((folder) => !mounts.some((mount) => isBeneath(folder, mount.target)))
  for (const file of files) {
    const inMount = mounts.some((mount) => isBeneath(file.path, mount.target))
    if (folders.includes(file.path)) throw invalid('input_files', `${file.path} is a folder; name a file in it`)
    if (!inMount && folders.some((folder) => isBeneath(file.path, folder))) continue
    throw invalid('input_files', `${file.path} lies in a volume; put it elsewhere`)
  }
  for (const folder of folders) requireMountTarget(folder)
  return { folders, files }
}

/** Anonymous volumes at the folders, or the volumes that `sources` names for them. */
export function folderMounts(plan: FolderPlan, sources: ReadonlyMap<string, string> = new Map()): MountSpec[] {
  return plan.folders.map((target) => {
    const source = sources.get(target)
    return { type: 'volume', target, readOnly: false, ...(source === undefined ? {} : { source }) }
  })
}

/** True where a process of this image user could not write to a fresh volume, which is root's. */
export function needsOpenFolders(imageUser: string): boolean {
  return !/^(root|0)?(:.*)?$/.test(imageUser)
}

/** Puts the input files into a container that has not started. */
export async function placeInputFiles(
  containers: Containers,
  containerId: string,
  plan: FolderPlan,
  signal: AbortSignal,
): Promise<void> {
  for (const folder of plan.folders) {
    const files = plan.files.filter((candidate) => isBeneath(candidate.path, folder))
    if (files.length === 0) continue
    const tar = pack()
    const made = new Set<string>()
    for (const file of files) {
      const name = posix.relative(folder, file.path)
      for (const parent of parentsOf(name).filter((candidate) => !made.has(candidate))) {
        made.add(parent)
        tar.entry({ name: `${parent}/`, type: 'directory', mode: 0o777 })
      }
      tar.entry({ name, mode: 0o755 }, file.content)
    }
    tar.finalize()
    await containers.writeArchive(containerId, folder, Readable.from(tar), signal)
  }
}

function folderFor(path: string, field: string): string {
  const known = [OUTPUT_FOLDER, INPUT_FOLDER].find((folder) => isBeneath(path, folder))
  if (known !== undefined) return known
  const folder = posix.dirname(path)
  if (folder !== '/') return folder
  throw invalid(field, `${path} lies in the root folder, which stays read-only; use a folder such as /output`)
}

function outermost(folders: readonly string[]): string[] {
  const unique = [...new Set(folders)]
  return unique.filter((folder) => !unique.some((other) => other !== folder && isBeneath(folder, other)))
}

function parentsOf(name: string): string[] {
  const parts = name.split('/').slice(0, -1)
  return parts.map((_, index) => parts.slice(0, index + 1).join('/'))
}

function invalid(path: string, message: string): AppError {
  return new AppError('validation_failed', `${path}: ${message}`, { errors: [{ path, message }] })
}
