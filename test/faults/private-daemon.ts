/**
 * A dockerd that a test may kill, freeze and start again, beside the machine's own and unseen by it: in
 * mount, network and process namespaces of its own, with all that it stores in memory. Takes root.
 *
 * The first process of the namespaces outlives dockerd: it holds the mounts and network namespaces of
 * containers that live on, and with it everything ends, however the test ended.
 */
import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, rmdir } from 'node:fs/promises'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { callEngine } from '../../scripts/engine-client.ts'
import { HTTPD, TOOLBOX } from '../fixtures/images.ts'

const START_MS = 30_000
const END_MS = 10_000
const POLL_MS = 10
const LOG_CHARACTERS = 4_000
const CGROUPS = '/sys/fs/cgroup'
/** Where the memory file system is mounted, in the daemon's folder. */
const ROOT = 'root'

/** Becomes tini, which reaps what dockerd and shims leave. The machine's /run is hidden, and its sockets with it. */
const FIRST_PROCESS = `set -eu
ip link set lo up
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs "$1"
if [ $# -gt 1 ]; then
  shift
  printf 'nameserver %s\\n' "$@" >/run/resolv.conf
  mount --bind /run/resolv.conf /etc/resolv.conf
fi
echo ready
exec tini -- sleep infinity`

export interface PrivateDaemonOptions {
  /** Containers live on over a restart of dockerd. */
  liveRestore?: boolean
  /** References that the machine's engine has, and this one gets. */
  images?: readonly string[]
  /** Addresses of the resolvers that its host has; the machine's own where there are none. */
  resolvers?: readonly string[]
}

export class PrivateDaemon {
  /** As `DOCKER_HOST` takes it. */
  readonly host: string
  readonly #folder: string
  readonly #cgroup: string
  readonly #holder: ChildProcess
  readonly #firstPid: number
  /** `nsenter`, whose only child is dockerd. */
  #entered: ChildProcess | undefined
  #pid: number | undefined
  #liveRestore: boolean
  /** What dockerd said, over all its lives. */
  log = ''

  private constructor(folder: string, holder: ChildProcess, firstPid: number, liveRestore: boolean) {
    this.#folder = folder
    this.host = `unix://${join(folder, 'docker.sock')}`
    this.#cgroup = folder.split('/').at(-1) ?? ''
    this.#holder = holder
    this.#firstPid = firstPid
    this.#liveRestore = liveRestore
  }

  /** A daemon that answers, with its images. */
  static async create({ liveRestore = false, images = [TOOLBOX, HTTPD], resolvers = [] }: PrivateDaemonOptions = {}) {
    const folder = await mkdtemp(join(tmpdir(), 'co-dockerd-'))
    const { holder, firstPid } = await hold(folder, resolvers)
    const daemon = new PrivateDaemon(folder, holder, firstPid, liveRestore)
    try {
      await daemon.start()
      if (images.length > 0) await daemon.#load(images)
    } catch (error) {
      await daemon.dispose()
      throw error
    }
    return daemon
  }

  /** Starts dockerd, which does not run, and resolves when it answers. Whether containers lived on is decided here. */
  async start({ liveRestore = this.#liveRestore }: { liveRestore?: boolean } = {}): Promise<void> {
    if (this.#entered !== undefined) throw new Error('dockerd runs already')
    this.#liveRestore = liveRestore
    const root = join(this.#folder, ROOT)
    // dockerd refuses to start over the pid file of a killed one whose number lives again.
    await rm(join(this.#folder, 'docker.pid'), { force: true })
    const entered = spawn(
      'setpriv',
      [
        ...[
          '--pdeathsig',
          'KILL',
          'nsenter',
          '--target',
          String(this.#firstPid),
          '--mount',
          '--net',
          '--pid',
          '--',
          'dockerd',
        ],
        ...['--data-root', join(root, 'data'), '--exec-root', join(root, 'exec')],
        ...['--pidfile', join(this.#folder, 'docker.pid'), '--host', this.host],
        ...['--cgroup-parent', `/${this.#cgroup}`, '--shutdown-timeout', '5', '--log-level', 'warn'],
        ...(liveRestore ? ['--live-restore'] : []),
      ],
      { cwd: '/', stdio: ['ignore', 'pipe', 'pipe'] },
    )
    this.#entered = entered
    for (const stream of [entered.stdout, entered.stderr]) {
      stream.on('data', (part: Buffer) => {
        this.log += part.toString()
      })
    }
    await until('dockerd answers', START_MS, async () => {
      if (hasEnded(entered)) throw new Error(`dockerd ended:\n${this.log.slice(-LOG_CHARACTERS)}`)
      return (await this.#status('GET', '/_ping')) === 200
    })
    ;[this.#pid] = await childrenOf(entered.pid)
  }

  /** SIGKILL to dockerd, with which its containerd dies; shims and containers live on. */
  async kill(): Promise<void> {
    const { entered, pid } = this.#running()
    const containerds = await childrenOf(pid)
    process.kill(pid, 'SIGKILL')
    // nsenter stops itself where dockerd is stopped, and would not see its end.
    entered.kill('SIGCONT')
    await exited(entered)
    await until('containerd has ended', END_MS, async () => !containerds.some(isAlive))
    this.#entered = undefined
  }

  async restart(options: { liveRestore?: boolean } = {}): Promise<void> {
    await this.kill()
    await this.start(options)
  }

  /** Stops dockerd (SIGSTOP): it takes connections, and answers nothing. */
  freeze(): void {
    process.kill(this.#running().pid, 'SIGSTOP')
  }

  thaw(): void {
    const { entered, pid } = this.#running()
    process.kill(pid, 'SIGCONT')
    entered.kill('SIGCONT')
  }

  /** A process on the network of its host, which ends with the test. */
  spawn(command: string, options: readonly string[]): ChildProcessByStdio<null, Readable, Readable> {
    const inside = ['nsenter', '--target', String(this.#firstPid), '--net', '--', command, ...options]
    return spawn('setpriv', ['--pdeathsig', 'KILL', ...inside], { stdio: ['ignore', 'pipe', 'pipe'] })
  }

  /** Ends dockerd, containerd, shims and containers, whatever their state, and removes what they left. */
  async dispose(): Promise<void> {
    // First what may be stopped with dockerd: the namespaces end when all in them is reaped by its parent.
    if (this.#entered !== undefined) {
      this.#entered.kill('SIGKILL')
      await exited(this.#entered)
    }
    if (!hasEnded(this.#holder)) process.kill(this.#firstPid, 'SIGKILL')
    await exited(this.#holder)
    await removeCgroups(this.#cgroup)
    await rm(this.#folder, { recursive: true, force: true })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  #running(): { entered: ChildProcess; pid: number } {
    if (this.#entered === undefined || this.#pid === undefined) throw new Error('dockerd does not run')
    return { entered: this.#entered, pid: this.#pid }
  }

  async #load(images: readonly string[]): Promise<void> {
    const query = new URLSearchParams(images.map((image): [string, string] => ['names', image]))
    const saved = await callEngine('GET', `/images/get?${query}`)
    if (saved.statusCode !== 200) throw new Error(`the machine's engine: ${await text(saved)}`)
    const request = this.#request('POST', '/images/load?quiet=1')
    const answered = once(request, 'response') as Promise<[http.IncomingMessage]>
    await pipeline(saved, request)
    const [answer] = await answered
    const said = await text(answer)
    if (answer.statusCode !== 200 || said.includes('"error"')) throw new Error(`loading ${images}: ${said}`)
  }

  /** The status of an answer, 0 where there is none. */
  async #status(method: string, path: string): Promise<number> {
    const request = this.#request(method, path)
    request.setTimeout(1_000, () => request.destroy(new Error('no answer')))
    request.end()
    try {
      const [answer] = (await once(request, 'response')) as [http.IncomingMessage]
      answer.resume()
      return answer.statusCode ?? 0
    } catch {
      return 0
    }
  }

  #request(method: string, path: string): http.ClientRequest {
    return http.request({ method, path, socketPath: join(this.#folder, 'docker.sock'), agent: false })
  }
}

/** Makes the namespaces, and the process that holds them. */
async function hold(folder: string, resolvers: readonly string[]): Promise<{ holder: ChildProcess; firstPid: number }> {
  await mkdir(join(folder, ROOT))
  const holder = spawn(
    'setpriv',
    [
      // A test that is killed takes the namespaces with it.
      ...['--pdeathsig', 'KILL', 'unshare', '--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc'],
      ...['--propagation', 'private', 'sh', '-c', FIRST_PROCESS, 'sh', join(folder, ROOT), ...resolvers],
    ],
    { cwd: '/', stdio: ['ignore', 'pipe', 'pipe'] },
  )
  let said = ''
  holder.stderr.on('data', (part: Buffer) => {
    said += part.toString()
  })
  let ready = false
  holder.stdout.on('data', () => {
    ready = true
  })
  await until('the namespaces are there', END_MS, async () => {
    if (hasEnded(holder)) throw new Error(`no namespaces for a private dockerd (it takes root): ${said}`)
    return ready
  })
  const [firstPid] = await childrenOf(holder.pid)
  if (firstPid === undefined) throw new Error('the first process of the namespaces has gone')
  return { holder, firstPid }
}

async function childrenOf(pid: number | undefined): Promise<number[]> {
  const children: number[] = []
  for (const thread of await readdir(`/proc/${pid}/task`)) {
    const listed = await readFile(`/proc/${pid}/task/${thread}/children`, 'utf8').catch(() => '')
    children.push(...listed.split(' ').filter(Boolean).map(Number))
  }
  return children
}

function isAlive(pid: number): boolean {
  return existsSync(`/proc/${pid}`)
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null
}

async function exited(child: ChildProcess): Promise<void> {
  if (!hasEnded(child)) await once(child, 'exit')
}

async function until(what: string, limitMs: number, isSo: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + limitMs
  while (!(await isSo())) {
    if (Date.now() > deadline) throw new Error(`not within ${limitMs} ms: ${what}`)
    await sleep(POLL_MS)
  }
}

/** Each controller has a tree of its own in version 1. A folder can be removed once its processes are gone. */
async function removeCgroups(name: string): Promise<void> {
  const controllers = await readdir(CGROUPS)
  const trees = [join(CGROUPS, name), ...controllers.map((controller) => join(CGROUPS, controller, name))]
  for (const tree of trees.filter((path) => existsSync(path))) {
    await until(`${tree} is removed`, END_MS, () =>
      removeTree(tree).then(
        () => true,
        () => false,
      ),
    )
  }
}

async function removeTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) await removeTree(join(folder, entry.name))
  }
  await rmdir(folder)
}
