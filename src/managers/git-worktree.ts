/**
 * A git worktree as a workspace. Its `.git` is a file that names a folder of the main repository, by
 * a path of the host; both are mounted where that path leads inside, so that git works at once and no
 * file changes.
 *
 * What git of the host would execute or obey (config, hooks, submodules' own folders, other
 * worktrees, the `.git` file) is read-only inside: an agent must not own whoever runs git outside.
 */
import { lstat, readFile, realpath, stat } from 'node:fs/promises'
import { dirname, join, posix, resolve } from 'node:path'
import { AppError } from '../errors.ts'
import { requireMountTarget } from '../policy/volumes.ts'
import type { WorktreeFolders } from '../policy/worker-environment.ts'
import { WORKSPACE_FOLDER } from '../policy/worker-policy.ts'
import type { HostPaths } from './host-paths.ts'

/** A mount of a folder or file of the host, by our path. */
export interface HostMount {
  source: string
  target: string
  readOnly: boolean
}

export interface GitWorktree {
  /** Outer before inner. The first is the workspace. */
  mounts: readonly HostMount[]
  /** Inside the container. */
  folders: WorktreeFolders
  /** The folder that all worktrees of the repository share, by our path. */
  repository: string
}

/** Parts of the shared folder that are read-only inside, where they are there. */
const GUARDED = ['config', 'config.worktree', 'info', 'modules', 'worktrees']
/** Parts of the worktree's own folder that git of the host obeys. */
const OWN_GUARDED = ['commondir', 'gitdir', 'config.worktree']
const MAX_POINTER_BYTES = 8 * 1024
const MAX_CONFIG_BYTES = 1024 * 1024
const OWN_POINTER = `${WORKSPACE_FOLDER}/.git`

/**
 * Reads what a worktree and its repository say of each other. `allowed` answers a path with symlinks
 * resolved, or throws where it lies outside of what may be mounted. Throws `validation_failed` where
 * the two do not belong together.
 */
export async function readWorktree(
  { path, repository }: { path: string; repository: string },
  paths: HostPaths,
  allowed: (path: string) => Promise<string>,
): Promise<GitWorktree> {
  const worktree = await allowed(path)
  const pointer = join(worktree, '.git')
  const recordedGitDir = await gitDirOf(pointer)
  const gitDir = await allowed(resolve(worktree, paths.toLocal(recordedGitDir)))
  const recordedCommon = (await content(join(gitDir, 'commondir'))) ?? ''
  if (recordedCommon === '') throw invalid(`${gitDir} has no commondir: it is not the folder of a worktree`)
  const commonDir = await allowed(resolve(gitDir, paths.toLocal(recordedCommon)))
  if (dirname(gitDir) !== join(commonDir, 'worktrees')) throw invalid(`${gitDir} is not beneath ${commonDir}/worktrees`)
  await requireSameRepository(commonDir, repository, allowed)
  const recordedPointer = await backPointer(gitDir, pointer, paths)

  const gitDirTarget = posix.resolve(WORKSPACE_FOLDER, recordedGitDir)
  const commonTarget = posix.resolve(gitDirTarget, recordedCommon)
  // Git takes a worktree for gone, and cleans it away, where its repository's note of it leads nowhere.
  const pointerTarget = posix.resolve(gitDirTarget, recordedPointer)
  for (const target of [gitDirTarget, commonTarget, pointerTarget]) requireMountTarget(target)
  const guarded = await guardedParts(commonDir, gitDir)
  return {
    mounts: [
      { source: worktree, target: WORKSPACE_FOLDER, readOnly: false },
      { source: commonDir, target: commonTarget, readOnly: false },
      ...guarded.map((name) => ({
        source: join(commonDir, name),
        target: posix.join(commonTarget, name),
        readOnly: true,
      })),
      { source: gitDir, target: gitDirTarget, readOnly: false },
      ...(await present(gitDir, OWN_GUARDED)).map((name) => ({
        source: join(gitDir, name),
        target: posix.join(gitDirTarget, name),
        readOnly: true,
      })),
      { source: pointer, target: OWN_POINTER, readOnly: true },
      ...(pointerTarget === OWN_POINTER ? [] : [{ source: pointer, target: pointerTarget, readOnly: true }]),
    ],
    folders: { gitDir: gitDirTarget, commonDir: commonTarget },
    repository: commonDir,
  }
}

/** The path in a worktree's `.git` file. */
async function gitDirOf(pointer: string): Promise<string> {
  const details = await lstat(pointer).catch(() => undefined)
  if (details === undefined) throw invalid(`${dirname(pointer)} has no .git: it is not a git worktree`)
  if (!details.isFile()) {
    throw invalid(`${pointer} is not a file: this is a repository, not a worktree`, 'Name a repository as host_path.')
  }
  const match = /^gitdir: (.+)$/.exec((await content(pointer)) ?? '')
  if (match?.[1] === undefined) throw invalid(`${pointer} does not say where its gitdir is`)
  return match[1]
}

async function requireSameRepository(
  commonDir: string,
  repository: string,
  allowed: (path: string) => Promise<string>,
): Promise<void> {
  const main = await allowed(repository)
  if (main === commonDir) return
  const nested = await realpath(join(main, '.git')).catch(() => undefined)
  if (nested === commonDir) return
  throw invalid(`The worktree belongs to ${commonDir}, not to ${repository}`)
}

/** The repository's note of where the worktree is, as it is written. */
async function backPointer(gitDir: string, pointer: string, paths: HostPaths): Promise<string> {
  const recorded = (await content(join(gitDir, 'gitdir'))) ?? ''
  const local = await realpath(resolve(gitDir, paths.toLocal(recorded))).catch(() => undefined)
  if (local === (await realpath(pointer))) return recorded
  throw invalid(
    `The repository has this worktree at "${recorded}", not at ${pointer}`,
    'Run `git worktree repair` in the main repository.',
  )
}

async function guardedParts(commonDir: string, gitDir: string): Promise<string[]> {
  // What is missing could be made inside, and git of the host would run it.
  if (!(await exists(join(commonDir, 'hooks')))) {
    throw invalid(`${commonDir} has no folder "hooks" that could be mounted read-only`, 'Make an empty one there.')
  }
  if (mentionsWorktreeConfig(await configOf(commonDir))) {
    for (const file of [join(commonDir, 'config.worktree'), join(gitDir, 'config.worktree')]) {
      if (!(await exists(file))) throw invalid(`${file} is missing while extensions.worktreeConfig is on`, 'Make it.')
    }
  }
  return ['hooks', ...(await present(commonDir, GUARDED))]
}

/** What git takes for no. */
const FALSE = new Set(['', 'false', 'no', 'off', '0'])

/** True unless a repository's config surely does not switch `extensions.worktreeConfig` on. */
function mentionsWorktreeConfig(config: string): boolean {
  return config
    .split('\n')
    .filter((line) => line.toLowerCase().includes('worktreeconfig') && !/^[#;]/.test(line.trimStart()))
    .some((line) => {
      const [, value] = line.toLowerCase().split('worktreeconfig')
      const [setting = ''] = (value ?? '').split(/[#;]/)
      // A name alone means yes.
      return !setting.includes('=') || !FALSE.has(setting.replace(/[="]/g, '').trim())
    })
}

async function configOf(commonDir: string): Promise<string> {
  const config = await content(join(commonDir, 'config'), MAX_CONFIG_BYTES)
  if (config === undefined) throw invalid(`${commonDir} has no config of at most 1 MiB`)
  return config
}

async function present(folder: string, names: readonly string[]): Promise<string[]> {
  const there = await Promise.all(names.map((name) => exists(join(folder, name))))
  return names.filter((_, index) => there[index])
}

async function content(path: string, limit = MAX_POINTER_BYTES): Promise<string | undefined> {
  const details = await stat(path).catch(() => undefined)
  if (details === undefined || !details.isFile() || details.size > limit) return undefined
  return (await readFile(path, 'utf8')).trim()
}

async function exists(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined)) !== undefined
}

function invalid(message: string, hint?: string): AppError {
  return new AppError('validation_failed', `workspace.git_worktree: ${message}`, {
    errors: [{ path: 'workspace.git_worktree', message }],
    hint,
  })
}
