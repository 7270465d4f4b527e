import { execFile } from 'node:child_process'
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { askEngine } from '../../scripts/engine-client.ts'
import { TOOLBOX, WORKER } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'
import { WorkerClient } from '../fixtures/workers.ts'

const run = promisify(execFile)
const TOKEN = 'ghp_token_that_nobody_may_see'
const KEY = 'sk-key-that-nobody-may-see'

let service: TestService
let client: WorkerClient
/** Allowed to be mounted. */
let root: string
/** The operator's own folder, which is not. */
let operator: string

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'co-root-'))
  operator = await mkdtemp(join(tmpdir(), 'co-operator-'))
  await mkdir(join(operator, 'login/nested'), { recursive: true })
  await writeFile(join(operator, 'login/credentials.json'), '{"login":true}')
  await writeFile(join(operator, 'login/history.txt'), 'not for workers')
  await writeFile(join(operator, 'login.json'), '{"oauth":true}')
  await writeFile(join(operator, 'known_hosts'), 'host key\n')
  await chmod(join(operator, 'known_hosts'), 0o644)
  await writeFile(join(operator, 'secrets.env'), `AGENT_KEY='${KEY}'\n`)
  await writeFile(
    join(operator, 'config.yaml'),
    `worker_environment_prefixes: [ACME]
shared_volumes: []
profiles:
  trusted: { extends: workspace, networks: [none, session, internal, bridge] }
credentials:
  agent-key:
    environment: { AGENT_KEY: { env_file: secrets.env } }
  agent-login:
    files:
      - { source: ${operator}/login, target: ~/.agent, mode: copy, only: [credentials.json, nested] }
      - { source: ${operator}/login.json, target: ~/.agent.json, mode: copy }
      - { source: ${operator}/absent, target: ~/.absent, mode: copy, optional: true }
  hosts:
    files: [{ source: ${operator}/known_hosts, target: /etc/ssh/known_hosts }]
  github:
    git: { username: robot, token: { variable: TEST_GITHUB_TOKEN } }
  broken:
    environment: { NOBODY_HAS_THIS: null }
`,
  )
  service = await startService({
    environment: {
      CO_ALLOWED_HOST_ROOTS: root,
      CO_CONFIG: join(operator, 'config.yaml'),
      TEST_GITHUB_TOKEN: TOKEN,
    },
  })
  client = new WorkerClient(service.url)
})
afterAll(async () => {
  await service?.destroy()
  await rm(root, { recursive: true, force: true })
  await rm(operator, { recursive: true, force: true })
})

async function git(folder: string, ...args: string[]): Promise<string> {
  const identity = ['-c', 'user.name=Host', '-c', 'user.email=host@localhost', '-c', 'init.defaultBranch=main']
  return (await run('git', ['-C', folder, ...identity, ...args])).stdout.trim()
}

/** A repository with a commit, and a worktree of it on a branch of its own. */
async function repositoryWithWorktree(name: string): Promise<{ repository: string; worktree: string }> {
  const repository = join(root, name, 'repo')
  const worktree = join(root, name, 'trees', 'one')
  await mkdir(repository, { recursive: true })
  await git(repository, 'init', '-q')
  await writeFile(join(repository, 'README'), 'first\n')
  await git(repository, 'add', '.')
  await git(repository, 'commit', '-qm', 'first')
  await git(repository, 'worktree', 'add', '-q', '-b', 'feature', worktree)
  return { repository, worktree }
}

/** Every file of a folder with its content. */
async function contents(folder: string): Promise<Map<string, string>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  return new Map(await Promise.all(files.map(async (file) => [file, await readFile(file, 'utf8')] as const)))
}

describe('a host folder as workspace', () => {
  it('is worked in as its owner, whose the files are', async () => {
    const folder = join(root, 'owned')
    await mkdir(folder)
    await chown(folder, 1234, 2345)
    const worker = await client.startWorker('owned', { workspace: { host_path: folder } })
    expect(worker).toMatchObject({
      user: '1234:2345',
      workspace: { kind: 'host_path', source: folder, path: '/workspace' },
    })
    await client.output('owned', 'echo made > file')
    const { uid, gid } = await stat(join(folder, 'file'))
    expect([uid, gid, await readFile(join(folder, 'file'), 'utf8')]).toEqual([1234, 2345, 'made\n'])
    await client.delete('/containers/worker/owned')
    expect(await readdir(folder)).toEqual(['file'])
  })

  it('that is root’s is worked in as root without capabilities', async () => {
    const folder = join(root, 'roots')
    await mkdir(folder)
    const worker = await client.startWorker('roots', { workspace: { host_path: folder } })
    expect(worker.user).toBe('0:0')
    expect(await client.output('roots', 'touch /workspace/file && cat /proc/self/status')).toMatch(/CapBnd:\s+0{16}/)
    await client.delete('/containers/worker/roots')
  })

  it('must lie under an allowed root, exist, and not lead out by a symlink', async () => {
    await symlink('/etc', join(root, 'sneaky'))
    await writeFile(join(root, 'file'), '')
    for (const [host_path, status, code] of [
      ['/etc', 403, 'policy_denied'],
      [`${root}/../..`, 403, 'policy_denied'],
      [join(root, 'sneaky'), 403, 'policy_denied'],
      [join(root, 'absent'), 400, 'validation_failed'],
      [join(root, 'file'), 400, 'validation_failed'],
      ['relative', 400, 'validation_failed'],
    ] as const) {
      const answer = await client.post('/containers/worker/start', {
        worker_id: 'denied',
        image: TOOLBOX,
        workspace: { host_path },
      })
      expect([host_path, answer.status, answer.body.code]).toEqual([host_path, status, code])
    }
    expect(await readdir(root)).not.toContain('absent')
    expect((await client.get('/containers/worker/denied')).status).toBe(404)
  })

  it('is not started again where somebody put a link in its place', async () => {
    const outer = join(root, 'outer')
    await mkdir(join(outer, 'inner'), { recursive: true })
    await client.startWorker('inner', { workspace: { host_path: join(outer, 'inner') } })
    // As a process of the host may, which no claim keeps from it.
    await rename(join(outer, 'inner'), join(outer, 'moved'))
    await symlink(operator, join(outer, 'inner'))
    const restarted = await client.post('/containers/worker/inner/restart')
    expect([restarted.status, restarted.body.code]).toEqual([403, 'policy_denied'])
    expect(await client.worker('inner')).toMatchObject({ status: 'failed' })
    const refreshed = await client.post('/containers/worker/inner/refresh')
    expect([refreshed.status, refreshed.body.code]).toEqual([403, 'policy_denied'])
    await client.delete('/containers/worker/inner')
  })

  it('lies in no folder that another container can write to, and the other way round', async () => {
    const session_id = newSession()
    const outer = join(root, 'wide')
    const inner = join(outer, 'deep', 'inner')
    await mkdir(inner, { recursive: true })
    const start = (worker_id: string, request: object) =>
      client.post('/containers/worker/start', { worker_id, image: TOOLBOX, ...request })
    const wide = { workspace: { host_path: outer } }
    const narrow = { workspace: { host_path: inner } }
    const mounting = (source: string, read_only: boolean) => ({ volumes: [{ source, target: '/mnt', read_only }] })
    const tool = (volumes: object) =>
      client.post('/containers/tool/execute', {
        tool_name: 't',
        session_id,
        image: TOOLBOX,
        command: ['true'],
        ...volumes,
      })

    await client.startWorker('narrow', narrow)
    for (const refused of [
      await start('wide', wide),
      await start('wide', mounting(outer, false)),
      await tool(mounting(join(outer, 'deep'), false)),
      await client.post('/containers/relic/start', {
        relic_name: 'r',
        session_id,
        image: TOOLBOX,
        ...mounting(outer, false),
      }),
    ]) {
      expect([refused.status, refused.body.code]).toEqual([409, 'conflict'])
      expect(refused.body.hint).toContain('read-only')
    }
    expect((await client.get('/containers/worker/wide')).status).toBe(404)
    expect((await tool(mounting(outer, true))).body.status).toBe('completed')
    // The same folder is shared; a stopped worker holds it, since it may be started again.
    await client.startWorker('twin', narrow)
    for (const id of ['narrow', 'twin']) await client.post(`/containers/worker/${id}/stop`)
    expect((await start('wide', wide)).status).toBe(409)
    for (const id of ['narrow', 'twin']) await client.delete(`/containers/worker/${id}`)

    expect((await start('wide', wide)).status).toBe(201)
    expect((await start('narrow', narrow)).status).toBe(409)
    expect((await tool(mounting(inner, true))).status).toBe(409)
    // One in whose place it comes is not in its way.
    await client.post('/containers/worker/wide/stop')
    expect((await start('wide', narrow)).status).toBe(201)
    expect((await client.post('/containers/worker/wide/refresh')).status).toBe(200)
    await client.delete('/containers/worker/wide')
    // A run holds it while it lasts, and no longer than until its answer.
    for (const source of [inner, outer, inner]) expect((await tool(mounting(source, false))).status).toBe(200)
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it('is held over a restart of the service, and free where a container is gone', async () => {
    const outer = join(root, 'lasting')
    const inner = join(outer, 'inner')
    await mkdir(inner, { recursive: true })
    const dataDir = await mkdtemp(join(tmpdir(), 'co-data-'))
    const environment = { CO_ALLOWED_HOST_ROOTS: root }
    let own = await startService({ dataDir, environment })
    try {
      let caller = new WorkerClient(own.url)
      const start = (worker_id: string, host_path: string) =>
        caller.post('/containers/worker/start', { worker_id, image: TOOLBOX, workspace: { host_path } })
      await caller.startWorker('running', { workspace: { host_path: outer } })
      await own.stop()
      own = await startService({ dataDir, environment })
      caller = new WorkerClient(own.url)
      expect((await start('inner', inner)).status).toBe(409)
      await caller.post('/containers/worker/running/stop')
      await own.stop()
      own = await startService({ dataDir, environment })
      caller = new WorkerClient(own.url)
      expect((await start('inner', inner)).status).toBe(409)
      expect((await caller.post('/containers/worker/running/restart')).status).toBe(200)
      await caller.delete('/containers/worker/running')
      expect((await start('inner', inner)).status).toBe(201)
    } finally {
      await own.destroy()
    }
  })

  it('has no further folder in it, which the worker could replace by a link', async () => {
    const folder = join(root, 'nested')
    await mkdir(join(folder, 'state'), { recursive: true })
    const answer = await client.post('/containers/worker/start', {
      worker_id: 'nested',
      image: TOOLBOX,
      workspace: { host_path: folder },
      volumes: [{ source: join(folder, 'state'), target: '/state', read_only: false }],
    })
    expect([answer.status, answer.body.code]).toEqual([400, 'validation_failed'])
    expect(answer.body.detail).toContain('can write to')
  })

  it('takes shared state folders beside it', async () => {
    const folder = join(root, 'stateful')
    const state = join(root, 'state')
    await Promise.all([folder, state].map((path) => mkdir(path)))
    await Promise.all([folder, state].map((path) => chown(path, 1000, 1000)))
    const volumes = [{ source: state, target: '/workspace/.state', read_only: false }]
    await client.startWorker('s1', { workspace: { host_path: folder }, volumes })
    await client.startWorker('s2', { volumes })
    await client.output('s1', 'echo task > .state/one')
    expect(await client.output('s2', 'cat .state/one')).toBe('task')
    await Promise.all(['s1', 's2'].map((id) => client.delete(`/containers/worker/${id}`)))
  })
})

describe('a named volume as workspace', () => {
  it('belongs to the session, and outlives its workers', async () => {
    const session_id = newSession()
    await client.startWorker('v1', { session_id, workspace: { volume: 'code' } })
    await client.output('v1', 'echo kept > file')
    await client.delete('/containers/worker/v1')
    await client.startWorker('v2', { session_id, workspace: { volume: 'code' } })
    expect(await client.output('v2', 'cat file && touch mine && echo ok')).toBe('kept\nok')
    const { body } = await client.post('/containers/cleanup/session', { session_id, force: true })
    expect(body).toMatchObject({ containers_removed: 1, volumes_removed: 1, errors: [] })
  })

  it('belongs to the worker where there is no session, and goes with it', async () => {
    await client.startWorker('v3', { workspace: { volume: 'code' } })
    const volumes = async () => (await service.engine.volumes.list({})).filter(({ name }) => name.includes('_v3_code_'))
    expect(await volumes()).toHaveLength(1)
    await client.delete('/containers/worker/v3')
    expect(await volumes()).toHaveLength(0)
  })
})

describe('a git worktree as workspace', () => {
  it('is committed to from inside at once, and no other file of the host changes', async () => {
    const { repository, worktree } = await repositoryWithWorktree('commit')
    const before = await contents(join(root, 'commit'))
    await client.startWorker('git', {
      image: WORKER,
      workspace: { git_worktree: { path: worktree, repository } },
    })
    expect(
      await client.output('git', 'git status --porcelain && git log --format=%s && git rev-parse --abbrev-ref HEAD'),
    ).toBe('first\nfeature')
    expect(
      await client.output('git', 'echo second > file && git add file && git commit -qm second && git log --format=%s'),
    ).toBe('second\nfirst')
    expect(
      await client.output(
        'git',
        'git stash list; echo x >> README; git stash -q; git stash pop -q; git diff --stat | tail -1',
      ),
    ).toContain('1 file changed')
    expect(
      await client.output(
        'git',
        'test -d "$GIT_MAIN_DIR/objects" && test -f "$ACME_GIT_WORKTREE_DIR/HEAD" && echo yes',
      ),
    ).toBe('yes')
    // The commit is in the repository outside, on the branch of the worktree.
    expect(await git(repository, 'log', '--format=%an: %s', 'feature')).toBe('git: second\nHost: first')
    expect(await git(worktree, 'status', '--porcelain')).toBe('M README')
    const after = await contents(join(root, 'commit'))
    const changed = [...before].filter(([file, text]) => after.get(file) !== text).map(([file]) => file)
    const own = [join(worktree, 'README'), '/worktrees/one/', '/logs/', '/refs/heads/feature']
    expect(changed.filter((file) => !own.some((part) => file.includes(part)))).toEqual([])
    await client.delete('/containers/worker/git')
  })

  it('gives the agent nothing that git of the host would run', async () => {
    const { repository, worktree } = await repositoryWithWorktree('guarded')
    await git(repository, 'worktree', 'add', '-q', '-b', 'other', join(root, 'guarded', 'trees', 'two'))
    await client.startWorker('guarded', {
      image: WORKER,
      workspace: { git_worktree: { path: worktree, repository } },
    })
    for (const attempt of [
      'echo evil > $GIT_MAIN_DIR/hooks/post-commit',
      'git config core.fsmonitor /tmp/evil',
      'echo "gitdir: /tmp/evil" > /workspace/.git',
      'rm -f /workspace/.git',
      'rm -rf $GIT_MAIN_DIR/worktrees/two',
      'mv $GIT_MAIN_DIR/hooks $GIT_MAIN_DIR/hooks2',
      'echo /workspace/evil > $GIT_WORKTREE_DIR/commondir',
      'echo x > $GIT_MAIN_DIR/info/attributes',
    ]) {
      expect((await client.exec('guarded', attempt)).exit_code, attempt).not.toBe(0)
    }
    await client.exec('guarded', 'git worktree prune --expire now; git gc -q --prune=now')
    expect(await git(repository, 'worktree', 'list')).toContain('two')
    expect(await git(worktree, 'status', '--porcelain')).toBe('')
    expect(await client.output('guarded', 'git status --porcelain && git log --format=%s')).toBe('first')
    await client.delete('/containers/worker/guarded')
  })

  it('is shared with other worktrees of its repository, and not with who has the whole of it', async () => {
    const { repository, worktree } = await repositoryWithWorktree('shared')
    const inside = join(repository, '.trees', 'two')
    await git(repository, 'worktree', 'add', '-q', '-b', 'two', inside)
    await client.startWorker('one', { image: WORKER, workspace: { git_worktree: { path: worktree, repository } } })
    await client.startWorker('two', { image: WORKER, workspace: { git_worktree: { path: inside, repository } } })
    // Two may even work in one worktree.
    await client.startWorker('twin', {
      image: WORKER,
      workspace: { git_worktree: { path: `${worktree}/`, repository } },
    })
    expect(await client.output('two', 'git commit -q --allow-empty -m second && git log --format=%s -1')).toBe('second')
    const main = () =>
      client.post('/containers/worker/start', {
        worker_id: 'main',
        image: TOOLBOX,
        workspace: { host_path: repository },
      })
    expect((await main()).status).toBe(409)
    expect((await client.post('/containers/worker/one/refresh')).status).toBe(200)
    for (const id of ['one', 'two', 'twin']) await client.delete(`/containers/worker/${id}`)
    expect((await main()).status).toBe(201)
    for (const path of [worktree, inside]) {
      const answer = await client.post('/containers/worker/start', {
        worker_id: 'tree',
        image: WORKER,
        workspace: { git_worktree: { path, repository } },
      })
      expect([answer.status, answer.body.code], path).toEqual([409, 'conflict'])
    }
    await client.delete('/containers/worker/main')
  })

  it('ends a worker that would send git of the host elsewhere, and removes what it made', async () => {
    const { repository, worktree } = await repositoryWithWorktree('breach')
    await client.startWorker('breach', {
      image: WORKER,
      workspace: { git_worktree: { path: worktree, repository } },
    })
    await client.exec('breach', 'mkdir evil && echo "[core] fsmonitor = touch pwned" > evil/config')
    await client.exec('breach', 'echo /workspace/evil > $GIT_MAIN_DIR/commondir; sleep 5')
    await expect.poll(async () => (await client.worker('breach')).status).toBe('failed')
    expect(await client.worker('breach')).toMatchObject({ failure: { code: 'killed' }, restarts: 0 })
    expect(await readdir(join(repository, '.git'))).not.toContain('commondir')
    expect(await git(repository, 'status', '--porcelain')).toBe('')
    await client.delete('/containers/worker/breach')
  })

  it('is refused where it does not belong to the repository, moved, or is none', async () => {
    const { repository, worktree } = await repositoryWithWorktree('mistakes')
    const other = await repositoryWithWorktree('others')
    const moved = await repositoryWithWorktree('moved')
    await rename(moved.worktree, join(root, 'moved', 'elsewhere'))
    for (const [git_worktree, words] of [
      [{ path: worktree, repository: other.repository }, 'belongs to'],
      [{ path: join(root, 'moved', 'elsewhere'), repository: moved.repository }, 'not at'],
      [{ path: repository, repository }, 'not a worktree'],
      [{ path: join(root, 'mistakes'), repository }, 'no .git'],
    ] as const) {
      const workspace = { git_worktree }
      const answer = await client.post('/containers/worker/start', { worker_id: 'mistake', image: WORKER, workspace })
      expect([answer.status, answer.body.code]).toEqual([400, 'validation_failed'])
      expect(answer.body.detail).toContain(words)
    }
  })
})

describe('credentials', () => {
  const inspected = async (workerId: string) =>
    JSON.stringify(await askEngine<object>('GET', `/containers/${(await client.worker(workerId)).container_id}/json`))

  it('come from the first source that has them, and are in no answer, log or inspect', async () => {
    const answer = await client.post('/containers/worker/start', {
      worker_id: 'keys',
      image: WORKER,
      credentials: ['agent-key', 'github'],
      command: 'echo ${#AGENT_KEY}; exec sleep 600',
    })
    expect(answer.status).toBe(201)
    expect(await client.output('keys', 'echo "$AGENT_KEY"')).toBe(KEY)
    expect(await client.output('keys', '$GIT_ASKPASS "Username for x"; $GIT_ASKPASS "Password for x"')).toBe(
      `robot\n${TOKEN}`,
    )
    expect(
      await client.output(
        'keys',
        'df /run/worker | grep -c tmpfs; stat -c %a /run/worker/environment /run/worker/git-token',
      ),
    ).toBe('1\n600\n600')
    const told = [
      answer.text,
      (await client.get('/containers/worker/keys')).text,
      (await client.get('/containers/worker')).text,
      (await client.get('/containers/worker/keys/logs')).text,
      JSON.stringify(service.logged()),
      await inspected('keys'),
    ].join('\n')
    expect(told).toContain('agent-key')
    for (const secret of [KEY, TOKEN]) expect(told).not.toContain(secret)
    // They are there for the process itself too, also after a restart.
    await client.post('/containers/worker/keys/restart')
    expect((await client.get('/containers/worker/keys/logs')).text).toBe(`${KEY.length}\n${KEY.length}\n`)
    await client.delete('/containers/worker/keys')
  })

  it('are copied for each worker where a program writes to them, and go with the worker', async () => {
    const workspace = { volume: 'own' }
    await client.startWorker('c1', { image: WORKER, workspace, credentials: ['agent-login', 'hosts'] })
    await client.startWorker('c2', { image: WORKER, workspace, credentials: ['agent-login'] })
    expect(await client.output('c1', 'cat ~/.agent/credentials.json ~/.agent.json; ls ~/.agent')).toBe(
      '{"login":true}{"oauth":true}credentials.json\nnested',
    )
    await client.output(
      'c1',
      'echo changed > ~/.agent/credentials.json && echo more > ~/.agent/new && echo y > ~/.agent.json',
    )
    expect(await client.output('c2', 'cat ~/.agent/credentials.json; ls ~/.agent')).toBe(
      '{"login":true}credentials.json\nnested',
    )
    expect(await readFile(join(operator, 'login/credentials.json'), 'utf8')).toBe('{"login":true}')
    // What a program wrote outlasts a new container.
    await client.post('/containers/worker/c1/refresh')
    expect(await client.output('c1', 'cat ~/.agent/credentials.json ~/.agent/new')).toBe('changed\nmore')
    expect(
      await client.output(
        'c1',
        'cat /etc/ssh/known_hosts; (echo x >> /etc/ssh/known_hosts) 2>/dev/null || echo refused',
      ),
    ).toBe('host key\nrefused')
    await Promise.all(['c1', 'c2'].map((id) => client.delete(`/containers/worker/${id}`)))
    const left = (await service.engine.volumes.list({})).filter(({ name }) => /_c[12]_credential/.test(name))
    expect(left).toEqual([])
  })

  it('are refused where the operator has none of that name, or their source has no value', async () => {
    const unknown = await client.post('/containers/worker/start', {
      worker_id: 'c3',
      image: WORKER,
      credentials: ['root'],
    })
    expect([unknown.status, unknown.body.code]).toEqual([403, 'policy_denied'])
    const broken = await client.post('/containers/worker/start', {
      worker_id: 'c3',
      image: WORKER,
      credentials: ['broken'],
    })
    expect([broken.status, broken.body.code]).toEqual([422, 'credentials_unavailable'])
    expect(broken.body.detail).toContain('NOBODY_HAS_THIS')
    expect((await service.services.docker.list()).filter(({ owner }) => owner.name === 'c3')).toEqual([])
  })
})

describe('the operator’s settings', () => {
  it('give workers their identity under further names, and refuse a caller’s', async () => {
    await client.startWorker('aliased', { task_id: 't1' })
    expect(await client.output('aliased', 'echo $ACME_WORKER_ID $ACME_TASK_ID')).toBe('aliased t1')
    const environment = { ACME_WORKER_ID: 'other' }
    const answer = await client.post('/containers/worker/start', { worker_id: 'x', image: TOOLBOX, environment })
    expect([answer.status, answer.body.errors[0].path]).toEqual([400, 'environment.ACME_WORKER_ID'])
    await client.delete('/containers/worker/aliased')
  })

  it('allow the bridge by a profile of theirs', async () => {
    const worker = await client.startWorker('bridged', { network: 'bridge', profile: 'trusted' })
    expect(worker.network.mode).toBe('bridge')
    expect(await client.output('bridged', 'ls /sys/class/net | grep -c eth0')).toBe('1')
    await client.delete('/containers/worker/bridged')
  })
})
