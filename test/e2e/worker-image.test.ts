/** The worker image, as the engine runs it: read-only root, no capabilities, a workspace. */
import { randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { pack } from 'tar-stream'
import { Agent, request } from 'undici'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { askEngine, callEngine } from '../../scripts/engine-client.ts'
import { WORKER, WORKER_BASE } from '../fixtures/images.ts'

const FOLDER = new URL('../../images/worker', import.meta.url).pathname
const HEALTHCHECK = '/usr/local/bin/healthcheck'
const ASKPASS = '/usr/local/bin/git-askpass'
const ASK_USER = "Username for 'https://git.example.com': "
const ASK_PASSWORD = "Password for 'https://x-access-token@git.example.com': "
/** By name: git has no author from anywhere else. */
const AUTHOR = {
  GIT_AUTHOR_NAME: 'A Worker',
  GIT_AUTHOR_EMAIL: 'worker@example.com',
  GIT_COMMITTER_NAME: 'A Worker',
  GIT_COMMITTER_EMAIL: 'worker@example.com',
}

const engine = new Agent({ connect: { socketPath: '/var/run/docker.sock' } })
const tag = `container-orchestrator-test/worker-trial:${randomUUID().slice(0, 8)}`

beforeAll(() => build(tag, { BASE_IMAGE: WORKER_BASE }), 300_000)
afterAll(async () => {
  await send('DELETE', `/images/${tag}?force=true`)
  await engine.close()
})

describe('the worker image', () => {
  it('is what set-up makes for the other tests, on the same base', async () => {
    const [base, own, made] = await Promise.all([inspectImage(WORKER_BASE), inspectImage(tag), inspectImage(WORKER)])
    expect(own.RootFS.Layers.slice(0, base.RootFS.Layers.length)).toEqual(base.RootFS.Layers)
    expect(made.RootFS.Layers.slice(0, base.RootFS.Layers.length)).toEqual(base.RootFS.Layers)
    const { User, Cmd, Entrypoint, WorkingDir, Env, Healthcheck } = own.Config
    expect(made.Config).toMatchObject({ User, Cmd, Entrypoint, WorkingDir, Env, Healthcheck })
  })

  it('idles as the user worker, in a workspace that is its own', async () => {
    const { Config } = await inspectImage(tag)
    expect(Config).toMatchObject({
      User: 'worker',
      WorkingDir: '/workspace',
      Cmd: ['tail', '-f', '/dev/null'],
      Entrypoint: null,
      Healthcheck: { Test: ['CMD', HEALTHCHECK] },
    })
    const { output } = await run(['sh', '-c', 'id -un; id -u; id -g; pwd; stat -c %u:%g . ~; echo ~; command -v sudo'])
    expect(output).toBe('worker\n1000\n1000\n/workspace\n1000:1000\n1000:1000\n/home/worker\n')
  })

  it.each([
    ['git', /^git version \d/],
    ['python3', /^Python 3\./],
    ['node', /^v\d+\./],
  ])('runs %s', async (program, version) => {
    const { exitCode, output } = await run([program, '--version'])
    expect({ exitCode, output }).toEqual({ exitCode: 0, output: expect.stringMatching(version) })
  })

  it.each([undefined, '4242:4242'])(
    'commits in a workspace whose folder is of another user (user %s)',
    async (user) => {
      const script = `set -e
      git init --quiet
      echo hello > file
      git add file
      git commit --quiet --message 'Say hello'
      git log --format='%an: %s'
      git branch --show-current
      git config pull.rebase`
      const ended = await run(['sh', '-c', script], { environment: AUTHOR, user, workspace: 'tmpfs' })
      expect(ended).toEqual({ exitCode: 0, output: 'A Worker: Say hello\nmain\nfalse\n' })
    },
  )
})

describe('healthcheck', () => {
  it.each([undefined, '0', '4242:4242'])('is OK where the workspace takes writes (user %s)', async (user) => {
    const ended = await run([HEALTHCHECK], { user, workspace: 'tmpfs' })
    expect(ended).toEqual({ exitCode: 0, output: 'OK\n' })
  })

  it.each([undefined, '0', '4242:4242'])('fails on a workspace that is read-only (user %s)', async (user) => {
    const ended = await run([HEALTHCHECK], { user, workspace: 'read-only' })
    expect(ended).toEqual({ exitCode: 1, output: 'unhealthy: /workspace is not writable\n' })
  })

  it('fails on a disk that is fuller than allowed', async () => {
    const fill = 'head -c 600000 /dev/zero > big'
    const [full, allowed] = await Promise.all([
      run(['sh', '-c', `${fill}; healthcheck 50`], { workspace: 'tmpfs' }),
      run(['sh', '-c', `${fill}; healthcheck`], { workspace: 'tmpfs' }),
    ])
    expect(full.exitCode).toBe(1)
    expect(full.output).toMatch(/^unhealthy: the disk of \/workspace is \d+% full, more than 50%\n$/)
    expect(allowed).toEqual({ exitCode: 0, output: 'OK\n' })
  })

  it('says that its own argument is no number', async () => {
    const ended = await run([HEALTHCHECK, '90%'], { workspace: 'tmpfs' })
    expect(ended).toEqual({
      exitCode: 1,
      output: 'unhealthy: the disk limit "90%" is not a whole number of percent\n',
    })
  })

  it('wants the programs that are required', async () => {
    const [missing, there] = await Promise.all([
      run([HEALTHCHECK], {
        environment: { WORKER_REQUIRE_PROGRAMS: 'node no-such-agent git neither-this' },
        workspace: 'tmpfs',
      }),
      run([HEALTHCHECK], { environment: { WORKER_REQUIRE_PROGRAMS: 'node git' }, workspace: 'tmpfs' }),
    ])
    expect(missing).toEqual({ exitCode: 1, output: 'unhealthy: not on PATH: no-such-agent neither-this\n' })
    expect(there).toEqual({ exitCode: 0, output: 'OK\n' })
  })

  it('wants a git repository where that is required', async () => {
    const environment = { WORKER_REQUIRE_GIT: '1' }
    const [none, one] = await Promise.all([
      run([HEALTHCHECK], { environment, workspace: 'tmpfs' }),
      run(['sh', '-c', 'git init --quiet && healthcheck'], { environment, workspace: 'tmpfs' }),
    ])
    expect(none).toEqual({ exitCode: 1, output: 'unhealthy: /workspace is not a git repository\n' })
    expect(one).toEqual({ exitCode: 0, output: 'OK\n' })
  })
})

describe('git-askpass', () => {
  it('answers the user that goes with a token, or the one that is set', async () => {
    const [usual, set] = await Promise.all([
      run([ASKPASS, ASK_USER]),
      run([ASKPASS, ASK_USER], { environment: { GIT_USERNAME: 'somebody' } }),
    ])
    expect(usual).toEqual({ exitCode: 0, output: 'x-access-token\n' })
    expect(set).toEqual({ exitCode: 0, output: 'somebody\n' })
  })

  it('answers the token of the file, else that of a variable', async () => {
    const asked = `echo from-file > /tmp/token; git-askpass "${ASK_PASSWORD}"`
    const environment = { GIT_TOKEN_FILE: '/tmp/token', GIT_TOKEN: 'from-variable', GITHUB_TOKEN: 'from-the-other' }
    const { GIT_TOKEN_FILE: _, ...variables } = environment
    const answers = await Promise.all([
      run(['sh', '-c', asked], { environment }),
      run(['sh', '-c', asked], { environment: variables }),
      run(['sh', '-c', asked], { environment: { GITHUB_TOKEN: environment.GITHUB_TOKEN } }),
    ])
    expect(answers).toEqual(
      ['from-file', 'from-variable', 'from-the-other'].map((token) => ({ exitCode: 0, output: `${token}\n` })),
    )
  })

  it('fails without a token, and on any other question', async () => {
    const [none, gone, other] = await Promise.all([
      run([ASKPASS, ASK_PASSWORD]),
      run([ASKPASS, ASK_PASSWORD], { environment: { GIT_TOKEN_FILE: '/nowhere' } }),
      run([ASKPASS, 'Are you sure you want to continue? '], { environment: { GIT_TOKEN: 'secret' } }),
    ])
    expect(none).toEqual({
      exitCode: 1,
      output: 'git-askpass: no token: set GIT_TOKEN_FILE, GIT_TOKEN or GITHUB_TOKEN\n',
    })
    expect(gone.exitCode).toBe(1)
    expect(gone.output).toContain('/nowhere is empty or cannot be read')
    expect(other).toEqual({
      exitCode: 1,
      output: 'git-askpass: no answer to "Are you sure you want to continue? "\n',
    })
  })

  it('is whom git asks', async () => {
    const ended = await run(['sh', '-c', 'printf "protocol=https\\nhost=git.example.com\\n" | git credential fill'], {
      environment: { GIT_TOKEN: 'from-variable' },
    })
    expect(ended.exitCode).toBe(0)
    expect(ended.output).toContain('username=x-access-token\npassword=from-variable\n')
  })
})

describe('images/worker/compose.yaml', () => {
  it('holds a worker as the service does', async () => {
    const compose = parse(await readFile(join(FOLDER, 'compose.yaml'), 'utf8'))
    expect(compose.services.worker).toMatchObject({
      build: '.',
      environment: {
        WORKER_ID: expect.any(String),
        TASK_ID: expect.any(String),
        SESSION_ID: expect.any(String),
      },
      volumes: [{ type: 'bind', source: '${WORKER_WORKSPACE:-./workspace}', target: '/workspace' }],
      mem_limit: '4g',
      cpus: 2,
      pids_limit: 1000,
      ulimits: { nofile: { soft: 1024, hard: 2048 } },
      read_only: true,
      tmpfs: [expect.stringMatching(/^\/tmp:size=/), expect.stringMatching(/^\/home\/worker:size=/)],
      security_opt: ['no-new-privileges:true'],
      cap_drop: ['ALL'],
      networks: ['worker-internal'],
      healthcheck: { test: ['CMD', HEALTHCHECK], interval: '60s', timeout: '10s', retries: 3 },
      stop_grace_period: '30s',
    })
    expect(compose.networks).toEqual({ 'worker-internal': { internal: true } })
  })
})

interface Trial {
  environment?: Readonly<Record<string, string>>
  user?: string | undefined
  /** Mounted at /workspace: one megabyte of memory, writable or not; else what the image has there. */
  workspace?: 'tmpfs' | 'read-only'
}

/** Runs a command to its end in a container of the image, and removes that. */
async function run(
  command: readonly string[],
  { environment = {}, user, workspace }: Trial = {},
): Promise<{ exitCode: number; output: string }> {
  const options = workspace === 'read-only' ? 'ro,size=1m' : 'size=1m'
  const { Id: id } = await send<{ Id: string }>('POST', '/containers/create', {
    Image: tag,
    Cmd: command,
    Env: Object.entries(environment).map(([name, value]) => `${name}=${value}`),
    ...(user === undefined ? {} : { User: user }),
    HostConfig: {
      NetworkMode: 'none',
      ReadonlyRootfs: true,
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges'],
      Tmpfs: { '/tmp': '', ...(workspace === undefined ? {} : { '/workspace': options }) },
    },
  })
  try {
    await send('POST', `/containers/${id}/start`)
    const { StatusCode: exitCode } = await send<{ StatusCode: number }>('POST', `/containers/${id}/wait`)
    return { exitCode, output: await logs(id) }
  } finally {
    await send('DELETE', `/containers/${id}?force=true&v=true`)
  }
}

/** What it wrote to both streams: frames of eight bytes' header, with the length in its second half. */
async function logs(id: string): Promise<string> {
  const answer = await callEngine('GET', `/containers/${id}/logs?stdout=1&stderr=1`)
  const frames = Buffer.concat(await answer.toArray())
  let output = ''
  for (let at = 0; at < frames.length; ) {
    const end = at + 8 + frames.readUInt32BE(at + 4)
    output += frames.toString('utf8', at + 8, end)
    at = end
  }
  return output
}

interface ImageDetails {
  RootFS: { Layers: string[] }
  Config: Record<'User' | 'Cmd' | 'Entrypoint' | 'WorkingDir' | 'Env' | 'Healthcheck', unknown>
}

function inspectImage(reference: string): Promise<ImageDetails> {
  return askEngine<ImageDetails>('GET', `/images/${reference}/json`)
}

/** Builds images/worker without a network. */
async function build(reference: string, buildArguments: Record<string, string>): Promise<void> {
  const context = pack()
  for (const name of ['Dockerfile', ...(await readdir(join(FOLDER, 'scripts'))).map((file) => `scripts/${file}`)]) {
    context.entry({ name, mode: 0o644 }, await readFile(join(FOLDER, name)))
  }
  context.finalize()
  const query = new URLSearchParams({
    t: reference,
    forcerm: 'true',
    networkmode: 'none',
    buildargs: JSON.stringify(buildArguments),
  })
  const answer = await callEngine('POST', `/build?${query}`, Readable.from(context))
  const output = await text(answer)
  if (answer.statusCode !== 200 || output.includes('"error"')) throw new Error(output.slice(-4_000))
}

async function send<T>(method: 'POST' | 'DELETE', path: string, body?: object): Promise<T> {
  const answer = await request(`http://engine${path}`, {
    method,
    dispatcher: engine,
    headers: { 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const answered = await answer.body.text()
  if (answer.statusCode >= 300) throw new Error(`${method} ${path}: ${answer.statusCode} ${answered}`)
  return (answered === '' ? undefined : JSON.parse(answered)) as T
}
