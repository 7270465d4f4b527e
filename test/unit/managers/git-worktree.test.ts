import { mkdir, realpath, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { describe, expect, it } from 'vitest'
import { AppError } from '../../../src/errors.ts'
import { type HostMount, readWorktree } from '../../../src/managers/git-worktree.ts'
import { HostPaths } from '../../../src/managers/host-paths.ts'
import { isBeneath } from '../../../src/policy/volumes.ts'
import { temporaryFolder } from '../support/folders.ts'
import { rejection } from '../support/streams.ts'

interface Layout {
  root: string
  /** Folder of the main repository, and what git keeps in it. */
  main: string
  commonDir: string
  gitDir: string
  tree: string
}

/** What `git init main && git worktree add trees/one` leaves behind, by hand: there may be no git. */
async function makeWorktree({
  main = 'main',
  tree = 'trees/one',
  bare = false,
  relativePaths = false,
}: {
  main?: string
  tree?: string
  bare?: boolean
  relativePaths?: boolean
} = {}): Promise<Layout> {
  const root = await realpath(await temporaryFolder())
  const commonDir = bare ? join(root, main) : join(root, main, '.git')
  const layout: Layout = {
    root,
    main: join(root, main),
    commonDir,
    gitDir: join(commonDir, 'worktrees/one'),
    tree: join(root, tree),
  }
  await mkdir(layout.tree, { recursive: true })
  await mkdir(join(commonDir, 'hooks'), { recursive: true })
  await mkdir(join(commonDir, 'objects'))
  await write(join(commonDir, 'config'), '[core]\n\trepositoryformatversion = 0\n\tbare = false\n')
  await write(join(commonDir, 'HEAD'), 'ref: refs/heads/main\n')
  await write(join(layout.gitDir, 'HEAD'), 'ref: refs/heads/one\n')
  await write(join(layout.gitDir, 'commondir'), '../..\n')
  const from = (folder: string, path: string) => (relativePaths ? relative(folder, path) : path)
  await write(join(layout.gitDir, 'gitdir'), `${from(layout.gitDir, join(layout.tree, '.git'))}\n`)
  await write(join(layout.tree, '.git'), `gitdir: ${from(layout.tree, layout.gitDir)}\n`)
  return layout
}

async function write(path: string, content: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, content)
}

interface Asked {
  path?: string
  repository?: string
  paths?: HostPaths
  roots?: string[]
}

function read(layout: Layout, { path, repository, paths, roots = [layout.root] }: Asked = {}) {
  const allowed = async (asked: string) => {
    const real = await realpath(asked)
    if (roots.some((root) => isBeneath(real, root))) return real
    throw new AppError('policy_denied', `${asked} is not allowed`, { rule: 'host_path' })
  }
  const given = { path: path ?? layout.tree, repository: repository ?? layout.main }
  return readWorktree(given, paths ?? new HostPaths(), allowed)
}

const refusal = async (layout: Layout, asked?: Asked) => (await rejection(read(layout, asked))) as AppError

/** The mount that a path in the container is seen through: the last of those that hold it. */
function through(mounts: readonly HostMount[], path: string): HostMount | undefined {
  return mounts.filter(({ target }) => isBeneath(path, target)).at(-1)
}

describe('readWorktree', () => {
  it('mounts the worktree as the workspace, and what it names where it names it', async () => {
    const layout = await makeWorktree()
    const { commonDir, gitDir, tree } = layout
    expect(await read(layout)).toEqual({
      mounts: [
        { source: tree, target: '/workspace', readOnly: false },
        { source: commonDir, target: commonDir, readOnly: false },
        { source: join(commonDir, 'hooks'), target: join(commonDir, 'hooks'), readOnly: true },
        { source: join(commonDir, 'config'), target: join(commonDir, 'config'), readOnly: true },
        { source: join(commonDir, 'worktrees'), target: join(commonDir, 'worktrees'), readOnly: true },
        { source: gitDir, target: gitDir, readOnly: false },
        { source: join(gitDir, 'commondir'), target: join(gitDir, 'commondir'), readOnly: true },
        { source: join(gitDir, 'gitdir'), target: join(gitDir, 'gitdir'), readOnly: true },
        { source: join(tree, '.git'), target: '/workspace/.git', readOnly: true },
        { source: join(tree, '.git'), target: join(tree, '.git'), readOnly: true },
      ],
      folders: { gitDir, commonDir },
      repository: commonDir,
    })
  })

  it('follows relative paths from the workspace, as git inside will', async () => {
    const layout = await makeWorktree({ relativePaths: true })
    const { mounts, folders } = await read(layout)
    expect(folders).toEqual({ gitDir: '/main/.git/worktrees/one', commonDir: '/main/.git' })
    expect(through(mounts, '/main/.git/objects/x')).toMatchObject({ source: layout.commonDir, readOnly: false })
    expect(through(mounts, '/main/.git/worktrees/one/index')).toMatchObject({ source: layout.gitDir, readOnly: false })
    // The repository's note of the worktree leads somewhere inside too.
    expect(through(mounts, '/trees/one/.git')).toMatchObject({ source: join(layout.tree, '.git'), readOnly: true })
  })

  it('needs no second mount where the repository names the workspace itself', async () => {
    const layout = await makeWorktree({ relativePaths: true, tree: 'workspace' })
    const { mounts } = await read(layout)
    expect(mounts.filter(({ source }) => source === join(layout.tree, '.git'))).toEqual([
      { source: join(layout.tree, '.git'), target: '/workspace/.git', readOnly: true },
    ])
  })

  it.each([false, true])('lets nothing be written that git of the host obeys (relative: %s)', async (relativePaths) => {
    const layout = await makeWorktree({ relativePaths })
    const { commonDir, gitDir, tree } = layout
    await write(join(commonDir, 'modules/sub/config'), '')
    await write(join(commonDir, 'config.worktree'), '')
    await write(join(commonDir, 'worktrees/two/HEAD'), '')
    await write(join(gitDir, 'config.worktree'), '')
    const { mounts, folders } = await read(layout)
    for (const name of [
      'config',
      'config.worktree',
      'hooks',
      'hooks/pre-commit',
      'modules/sub/config',
      'worktrees',
      'worktrees/two/HEAD',
      'worktrees/three',
      'worktrees/one/config.worktree',
    ]) {
      const mount = through(mounts, join(folders.commonDir, name))
      expect(mount?.readOnly, name).toBe(true)
      expect(join(mount?.source ?? '', relative(mount?.target ?? '', join(folders.commonDir, name)))).toBe(
        join(commonDir, name),
      )
    }
    expect(through(mounts, '/workspace/.git')).toMatchObject({ source: join(tree, '.git'), readOnly: true })
  })

  it('lets git commit: objects, branches and what belongs to the worktree can be written', async () => {
    const layout = await makeWorktree()
    const { mounts, folders } = await read(layout)
    for (const path of [
      join(folders.commonDir, 'objects/ab/cd'),
      join(folders.commonDir, 'refs/heads/one'),
      join(folders.commonDir, 'packed-refs.lock'),
      join(folders.gitDir, 'index.lock'),
      join(folders.gitDir, 'HEAD'),
      '/workspace/src/a.ts',
    ]) {
      expect(through(mounts, path)?.readOnly, path).toBe(false)
    }
  })

  it.each([
    ['beside', {}],
    ['with relative paths', { relativePaths: true }],
    ['in the main repository', { tree: 'main/.worktrees/one' }],
    ['in the main repository, with relative paths', { tree: 'main/.worktrees/one', relativePaths: true }],
    ['of a bare repository', { main: 'main.git', bare: true }],
    ['in a bare repository', { main: 'main.git', bare: true, tree: 'main.git/one' }],
  ])('has outer mounts before inner ones for a worktree %s', async (_, how) => {
    const layout = await makeWorktree(how)
    const { mounts } = await read(layout)
    expect(mounts[0]).toEqual({ source: layout.tree, target: '/workspace', readOnly: false })
    for (const [index, { target }] of mounts.entries()) {
      const covered = mounts.slice(0, index).filter((earlier) => isBeneath(earlier.target, target))
      expect(covered, target).toEqual([])
    }
  })

  it.each(['folder', '.git'])('takes the repository by its %s', async (by) => {
    const layout = await makeWorktree()
    const repository = by === 'folder' ? layout.main : layout.commonDir
    expect((await read(layout, { repository })).folders.commonDir).toBe(layout.commonDir)
  })

  it('takes a bare repository', async () => {
    const layout = await makeWorktree({ main: 'main.git', bare: true })
    expect((await read(layout)).folders).toEqual({ gitDir: layout.gitDir, commonDir: layout.main })
  })

  it('takes both by symlinks, and mounts what they lead to', async () => {
    const layout = await makeWorktree()
    await symlink(layout.tree, join(layout.root, 'tree-link'))
    await symlink(layout.main, join(layout.root, 'main-link'))
    const asked = { path: join(layout.root, 'tree-link'), repository: join(layout.root, 'main-link') }
    expect(await read(layout, asked)).toEqual(await read(layout))
  })

  it('reads the files here, and mounts by the paths of the host, where the service runs in a container', async () => {
    const layout = await makeWorktree()
    const host = (path: string) => path.replace(layout.root, '/srv/code')
    await write(join(layout.tree, '.git'), `gitdir: ${host(layout.gitDir)}\n`)
    await write(join(layout.gitDir, 'gitdir'), `${host(join(layout.tree, '.git'))}\n`)
    const paths = new HostPaths([{ source: '/srv/code', target: layout.root }])
    const { mounts, folders } = await read(layout, { paths })
    expect(folders).toEqual({ gitDir: host(layout.gitDir), commonDir: host(layout.commonDir) })
    expect(mounts[1]).toEqual({ source: layout.commonDir, target: host(layout.commonDir), readOnly: false })
    expect(mounts.at(-1)).toEqual({
      source: join(layout.tree, '.git'),
      target: host(join(layout.tree, '.git')),
      readOnly: true,
    })
  })
})

describe('readWorktree refuses', () => {
  const INVALID = { code: 'validation_failed', details: { errors: [{ path: 'workspace.git_worktree' }] } }

  it('a folder of the repository that lies elsewhere than worktrees lie', async () => {
    const layout = await makeWorktree()
    const elsewhere = join(layout.commonDir, 'elsewhere')
    await rename(layout.gitDir, elsewhere)
    await write(join(elsewhere, 'commondir'), '..\n')
    await write(join(layout.tree, '.git'), `gitdir: ${elsewhere}\n`)
    const error = await refusal(layout)
    expect(error).toMatchObject(INVALID)
    expect(error.message).toContain('is not beneath')
  })

  it('a folder that is no worktree', async () => {
    const layout = await makeWorktree()
    await rm(join(layout.tree, '.git'))
    const error = await refusal(layout)
    expect(error).toMatchObject(INVALID)
    expect(error.message).toContain(`${layout.tree} has no .git`)
  })

  it('the main repository, which is to be a host_path', async () => {
    const layout = await makeWorktree()
    const error = await refusal(layout, { path: layout.main })
    expect(error).toMatchObject(INVALID)
    expect(error.details.hint).toContain('host_path')
  })

  it('a .git that is a symlink, even to such a file', async () => {
    const layout = await makeWorktree()
    await rename(join(layout.tree, '.git'), join(layout.tree, 'pointer'))
    await symlink('pointer', join(layout.tree, '.git'))
    expect(await refusal(layout)).toMatchObject(INVALID)
  })

  it.each([
    ['nothing', ''],
    ['another thing', 'worktree: /x\n'],
    ['no path', 'gitdir: \n'],
    ['more lines than one', 'gitdir: /a\ngitdir: /b\n'],
    ['far too much', `gitdir: /${'x'.repeat(9000)}\n`],
  ])('a .git that says %s', async (_, content) => {
    const layout = await makeWorktree()
    await write(join(layout.tree, '.git'), content)
    const error = await refusal(layout)
    expect(error).toMatchObject(INVALID)
    expect(error.message).toContain('does not say where its gitdir is')
  })

  it('a submodule, whose folder has no commondir', async () => {
    const layout = await makeWorktree()
    await mkdir(join(layout.commonDir, 'modules/sub'), { recursive: true })
    await write(join(layout.tree, '.git'), `gitdir: ${join(layout.commonDir, 'modules/sub')}\n`)
    const error = await refusal(layout)
    expect(error).toMatchObject(INVALID)
    expect(error.message).toContain('commondir')
  })

  it('an empty commondir', async () => {
    const layout = await makeWorktree()
    await write(join(layout.gitDir, 'commondir'), '\n')
    expect(await refusal(layout)).toMatchObject(INVALID)
  })

  it('another repository than the one it belongs to', async () => {
    const layout = await makeWorktree()
    await mkdir(join(layout.root, 'other/.git'), { recursive: true })
    const error = await refusal(layout, { repository: join(layout.root, 'other') })
    expect(error).toMatchObject(INVALID)
    expect(error.message).toContain(`belongs to ${layout.commonDir}`)
  })

  it('a folder above the repository', async () => {
    const layout = await makeWorktree()
    expect(await refusal(layout, { repository: layout.root })).toMatchObject(INVALID)
  })

  it('a worktree that was moved, and tells how to repair it', async () => {
    const layout = await makeWorktree()
    const moved = join(layout.root, 'trees/moved')
    await rename(layout.tree, moved)
    const error = await refusal(layout, { path: moved })
    expect(error).toMatchObject(INVALID)
    expect(error.message).toContain(join(layout.tree, '.git'))
    expect(error.details.hint).toContain('git worktree repair')
  })

  it('a copy of a worktree: the repository means the other', async () => {
    const layout = await makeWorktree()
    await write(join(layout.root, 'trees/copy/.git'), `gitdir: ${layout.gitDir}\n`)
    expect(await refusal(layout, { path: join(layout.root, 'trees/copy') })).toMatchObject(INVALID)
  })

  it('a worktree of which the repository has no note', async () => {
    const layout = await makeWorktree()
    await rm(join(layout.gitDir, 'gitdir'))
    expect(await refusal(layout)).toMatchObject(INVALID)
  })

  it('a repository without hooks, which could be made inside', async () => {
    const layout = await makeWorktree()
    await rm(join(layout.commonDir, 'hooks'), { recursive: true })
    const error = await refusal(layout)
    expect(error).toMatchObject(INVALID)
    expect(error.message).toContain('"hooks"')
  })

  it.each([
    'worktreeConfig = true',
    'worktreeconfig=yes',
    'WORKTREECONFIG = On',
    'worktreeConfig = 1',
    'worktreeConfig',
    'worktreeConfig = "true"',
    'worktreeConfig = true # for one',
    'worktreeConfig = true ; for one',
    'worktreeConfig = 2',
    '[extensions] worktreeConfig = true',
  ])('a config of its own that is missing while git reads one: %s', async (line) => {
    const layout = await makeWorktree()
    await write(join(layout.commonDir, 'config'), `[core]\n\tbare = false\n[extensions]\n\t${line}\n`)
    const missing = await refusal(layout)
    expect(missing).toMatchObject(INVALID)
    expect(missing.message).toContain(join(layout.commonDir, 'config.worktree'))
    await write(join(layout.commonDir, 'config.worktree'), '')
    expect((await refusal(layout)).message).toContain(join(layout.gitDir, 'config.worktree'))
    await write(join(layout.gitDir, 'config.worktree'), '')
    const { mounts } = await read(layout)
    for (const file of [join(layout.commonDir, 'config.worktree'), join(layout.gitDir, 'config.worktree')]) {
      expect(mounts).toContainEqual({ source: file, target: file, readOnly: true })
    }
  })

  it.each(['worktreeConfig = false', 'worktreeConfig = "no" # none', '# worktreeConfig = true'])(
    'nothing where git reads no such config: %s',
    async (line) => {
      const layout = await makeWorktree()
      await write(join(layout.commonDir, 'config'), `[extensions]\n\t${line}\n`)
      expect((await read(layout)).folders.commonDir).toBe(layout.commonDir)
    },
  )

  it.each([
    ['the worktree', (layout: Layout) => [layout.main]],
    ['the folder of the worktree in the repository', (layout: Layout) => [layout.tree]],
    ['the repository', (layout: Layout) => [layout.tree, layout.gitDir]],
  ])('%s outside of what is allowed', async (_, roots) => {
    const layout = await makeWorktree()
    expect(await refusal(layout, { roots: roots(layout) })).toMatchObject({ code: 'policy_denied' })
  })

  it('files that lead elsewhere than the request says, by text or by symlink', async () => {
    const outside = await makeWorktree()
    const layout = await makeWorktree()
    await write(join(layout.tree, '.git'), `gitdir: ${outside.gitDir}\n`)
    expect(await refusal(layout)).toMatchObject({ code: 'policy_denied' })
    await write(join(layout.tree, '.git'), `gitdir: ${layout.gitDir}\n`)
    await write(join(layout.gitDir, 'commondir'), outside.commonDir)
    expect(await refusal(layout)).toMatchObject({ code: 'policy_denied' })
    await rm(layout.gitDir, { recursive: true })
    await symlink(outside.gitDir, layout.gitDir)
    expect(await refusal(layout)).toMatchObject({ code: 'policy_denied' })
  })

  it('a repository that would be mounted over what belongs to the kernel', async () => {
    const layout = await makeWorktree({ main: 'proc', tree: 'one', relativePaths: true })
    expect(await refusal(layout)).toMatchObject({ code: 'policy_denied', message: expect.stringContaining('/proc') })
  })
})
