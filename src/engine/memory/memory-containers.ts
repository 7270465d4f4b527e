import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { posix } from 'node:path'
import { Readable, Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { extract, pack } from 'tar-stream'
import { EngineError } from '../../errors.ts'
import type { Labels } from '../../labels.ts'
import type {
  Attachment,
  CommitOptions,
  ContainerEndpoint,
  ContainerState,
  ContainerSummary,
  Containers,
  EngineHealth,
  Exec,
  ExecOptions,
  LogsOptions,
  OutputChunk,
  PathStat,
  StatsSample,
} from '../engine.ts'
import type { ContainerSpec } from '../spec.ts'
import { type FileTree, FileView } from './files.ts'
import { InputBuffer, OutputLog } from './process.ts'
import { execute, type ShellContext } from './shell.ts'
import { carries, fullId, mountpointOf, newId, type World } from './world.ts'

const SIGNAL_CODES: Partial<Record<NodeJS.Signals, number>> = { SIGKILL: 137, SIGTERM: 143, SIGINT: 130 }
const SAMPLE_INTERVAL_MS = 200
/** What an engine writes into /etc/hosts of a container whose network it sets up. */
const OWN_HOSTS: FileTree = new Map([['', { content: Buffer.from('127.0.0.1\tlocalhost\n'), modifiedAt: new Date() }]])

/** One simulated container. */
interface Container {
  id: string
  spec: ContainerSpec
  status: ContainerState['status']
  createdAt: Date
  startedAt?: Date
  finishedAt?: Date
  exitCode: number
  oomKilled: boolean
  files: FileView
  log: OutputLog
  stdin: InputBuffer
  process: AbortController
  ended: Promise<void>
  health?: EngineHealth
  /** Commands that run beside the process, by what their environment tells of them. */
  execs: Map<AbortController, Readonly<Record<string, string>>>
}

/** The process was killed with a signal. */
class Killed extends Error {
  readonly code: number
  constructor(signal: NodeJS.Signals) {
    super(`killed with ${signal}`)
    this.code = SIGNAL_CODES[signal] ?? 128
  }
}

export class MemoryContainers implements Containers {
  readonly #world: World
  readonly #containers = new Map<string, Container>()

  constructor(world: World) {
    this.#world = world
  }

  async create(spec: ContainerSpec): Promise<string> {
    const image = this.#world.images.get(spec.imageId)
    if (image === undefined) throw new EngineError('not_found', `No such image: ${spec.imageId}`)
    if ([...this.#containers.values()].some((other) => other.spec.name === spec.name)) {
      throw new EngineError('conflict', `The container name "${spec.name}" is already in use`)
    }
    const { network } = spec
    if (network.mode === 'network' && !this.#world.networks.has(network.networkId)) {
      throw new EngineError('not_found', `No such network: ${network.networkId}`)
    }
    const id = newId()
    const hostsFile = network.mode === 'none' ? network.hostsFile : undefined
    const hosts = hostsFile === undefined ? OWN_HOSTS : this.#world.hostFile(hostsFile)
    const files = new FileView(spec, hosts, (source, target) =>
      this.#world.volumeTree(source ?? anonymousVolume(id, target), source === undefined ? id : undefined),
    )
    this.#world.use(
      id,
      spec.mounts.flatMap(({ source }) => source ?? []),
    )
    const container: Container = {
      id,
      spec,
      status: 'created',
      createdAt: new Date(),
      exitCode: 0,
      oomKilled: false,
      files,
      log: new OutputLog(),
      stdin: new InputBuffer(),
      process: new AbortController(),
      ended: Promise.resolve(),
      execs: new Map(),
    }
    this.#containers.set(id, container)
    if (network.mode === 'network') this.#world.joined.set(id, new Set([network.networkId]))
    this.#world.events.tell('create', container)
    return id
  }

  async start(id: string): Promise<void> {
    const container = this.#get(id)
    if (container.status === 'running') return
    this.#world.running.add(id)
    for (const networkId of this.#world.joined.get(id) ?? []) this.#world.attach(networkId, id)
    container.status = 'running'
    container.startedAt = new Date()
    delete container.finishedAt
    container.oomKilled = false
    container.process = new AbortController()
    if (!container.spec.openStdin) container.stdin.end()
    container.log.begin()
    this.#world.events.tell('start', container)
    container.ended = this.#run(container)
    void this.#checkHealth(container)
  }

  async rename(id: string, name: string): Promise<void> {
    const container = this.#get(id)
    if ([...this.#containers.values()].some((other) => other !== container && other.spec.name === name)) {
      throw new EngineError('conflict', `The container name "${name}" is already in use`)
    }
    container.spec = { ...container.spec, name }
  }

  async stop(id: string, _graceSeconds: number): Promise<void> {
    const container = this.#containers.get(fullId(id))
    if (container === undefined || !isUp(container)) return
    container.process.abort(new Killed('SIGTERM'))
    await container.ended
  }

  async kill(id: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<boolean> {
    const container = this.#containers.get(fullId(id))
    if (container === undefined || !isUp(container)) return false
    container.process.abort(new Killed(signal))
    return true
  }

  async remove(id: string): Promise<boolean> {
    const container = this.#containers.get(fullId(id))
    if (container === undefined) return false
    if (await this.kill(id)) await container.ended
    this.#containers.delete(id)
    this.#world.events.tell('destroy', container)
    this.#world.release(id)
    return true
  }

  async wait(id: string, signal?: AbortSignal): Promise<void> {
    const { ended } = this.#get(id)
    if (signal === undefined) return ended
    signal.throwIfAborted()
    const over = new AbortController()
    const aborted = once(signal, 'abort', { signal: over.signal }).then(() => {
      throw new EngineError('failed', `Stopped while waiting for container ${id}`)
    })
    aborted.catch(() => {})
    await Promise.race([ended, aborted]).finally(() => over.abort())
  }

  async inspect(id: string): Promise<ContainerState | undefined> {
    const container = this.#containers.get(fullId(id))
    if (container === undefined) return undefined
    const { spec } = container
    return {
      ...summaryOf(container),
      ...(container.startedAt === undefined ? {} : { startedAt: container.startedAt }),
      ...(container.finishedAt === undefined ? {} : { finishedAt: container.finishedAt }),
      exitCode: container.exitCode,
      oomKilled: container.oomKilled,
      error: '',
      networks: this.#joined(container),
      ports: spec.ports.map((port) => ({ ...port, hostPort: port.hostPort || 30_000 + port.containerPort })),
      mounts: spec.mounts.map(({ type, source, target, readOnly }) => ({
        source: type === 'volume' ? mountpointOf(source ?? anonymousVolume(id, target)) : source,
        target,
        ...(type === 'volume' ? { volume: source ?? anonymousVolume(id, target) } : {}),
        ...(readOnly ? { readOnly } : {}),
      })),
      user: spec.user ?? '',
      limits: { memoryBytes: spec.resources.memoryBytes, cpus: spec.resources.cpus, pids: spec.resources.pids },
      ...(container.health === undefined ? {} : { health: container.health }),
    }
  }

  async list(labels: Labels): Promise<ContainerSummary[]> {
    return [...this.#containers.values()].filter(({ spec }) => carries(spec.labels, labels)).map(summaryOf)
  }

  async attach(id: string, { stdin, signal }: { stdin: boolean; signal?: AbortSignal }): Promise<Attachment> {
    const container = this.#get(id)
    const closed = new AbortController()
    const over = signal === undefined ? closed.signal : AbortSignal.any([closed.signal, signal])
    return {
      output: container.log.read(container.log.length, true, over),
      stdin: stdin ? writableInto(container.stdin) : new Writable({ write: (_chunk, _encoding, done) => done() }),
      close: () => closed.abort(),
    }
  }

  async *logs(id: string, { follow, tail, signal }: LogsOptions): AsyncGenerator<OutputChunk> {
    const { log, status } = this.#get(id)
    const from = tail === undefined ? 0 : log.length
    if (tail !== undefined) yield* log.tail(tail)
    yield* log.read(from, follow && status === 'running', signal)
  }

  async *stats(id: string, signal: AbortSignal): AsyncGenerator<StatsSample> {
    const container = this.#get(id)
    while (isUp(container) && !signal.aborted) {
      yield sampleOf(container)
      const over = AbortSignal.any([signal, container.process.signal])
      await Promise.race([container.ended, delay(SAMPLE_INTERVAL_MS, undefined, { signal: over }).catch(() => {})])
    }
  }

  async sample(id: string): Promise<StatsSample | undefined> {
    const container = this.#containers.get(fullId(id))
    return container !== undefined && isUp(container) ? sampleOf(container) : undefined
  }

  async statPath(id: string, path: string): Promise<PathStat | undefined> {
    const stat = this.#get(id).files.stat(path)
    return stat && { name: posix.basename(path), isSymlink: false, linkTarget: '', ...stat }
  }

  async readArchive(id: string, path: string): Promise<Readable> {
    const { files } = this.#get(id)
    if (files.stat(path) === undefined)
      throw new EngineError('not_found', `Could not find the file ${path} in container ${id}`)
    const tar = pack()
    if (files.stat(path)?.isDirectory) tar.entry({ name: `${posix.basename(path)}/`, type: 'directory' })
    for (const { name, content } of files.list(path)) tar.entry({ name }, content)
    tar.finalize()
    return Readable.from(tar)
  }

  async writeArchive(id: string, path: string, tar: Readable): Promise<void> {
    const { files } = this.#get(id)
    if (!files.takesArchives(path)) throw new EngineError('invalid', 'container rootfs is marked read-only')
    const entries = extract()
    tar.pipe(entries)
    for await (const entry of entries) {
      const parts: Buffer[] = []
      for await (const part of entry) parts.push(part as Buffer)
      if (entry.header.type === 'file') files.write(posix.join(path, entry.header.name), Buffer.concat(parts))
    }
  }

  async exec(id: string, { command, stdin, environment = {}, signal }: ExecOptions): Promise<Exec> {
    const container = this.#get(id)
    if (container.status !== 'running') throw new EngineError('conflict', `Container ${id} is not running`)
    const log = new OutputLog()
    const input = new InputBuffer()
    if (!stdin) input.end()
    let exitCode: number | null = null
    const killed = new AbortController()
    container.execs.set(killed, environment)
    const ending = AbortSignal.any([container.process.signal, killed.signal])
    const context = this.#context(container, ending, input, log)
    const running = execute(command, {
      ...context,
      environment: { ...context.environment, ...environment },
    })
      .catch(() => SIGNAL_CODES.SIGKILL ?? null)
      .then((code) => {
        exitCode = code
        container.execs.delete(killed)
        log.end()
      })
    const closed = new AbortController()
    const over = signal === undefined ? closed.signal : AbortSignal.any([closed.signal, signal])
    void running
    return {
      output: log.read(0, true, over),
      stdin: writableInto(input),
      close: () => closed.abort(),
      inspect: async () => ({ running: exitCode === null, exitCode }),
    }
  }

  async pause(id: string): Promise<void> {
    const container = this.#get(id)
    if (!isUp(container)) throw new EngineError('conflict', `Container ${id} is not running`)
    container.status = 'paused'
  }

  async resume(id: string): Promise<void> {
    const container = this.#get(id)
    if (!isUp(container)) throw new EngineError('conflict', `Container ${id} is not running`)
    container.status = 'running'
  }

  async commit(id: string, options: CommitOptions): Promise<string> {
    const { spec } = this.#get(id)
    const inherited = this.#world.images.get(spec.imageId)?.environment ?? []
    return this.#world.addImage(options.reference, {
      bytes: 1024,
      labels: { ...spec.labels, ...options.labels },
      entrypoint: options.entrypoint,
      command: options.command,
      user: options.user,
      workingDir: options.workingDir,
      environment: [...inherited, ...options.blankVariables.map((name) => `${name}=`)],
    })
  }

  async #run(container: Container): Promise<void> {
    const { spec, log, process: running } = container
    const image = this.#world.images.get(spec.imageId)
    const command = spec.command ?? (spec.entrypoint === undefined ? (image?.command ?? []) : [])
    const argv = [...(spec.entrypoint ?? image?.entrypoint ?? []), ...command]
    const context = this.#context(container, running.signal, container.stdin, log)
    try {
      // A start answers before its process has written anything.
      await delay(1)
      running.signal.throwIfAborted()
      container.exitCode = await execute(argv, { ...context, onOom: () => this.#oom(container) })
    } catch {
      container.exitCode = running.signal.reason instanceof Killed ? running.signal.reason.code : 1
    }
    container.status = 'exited'
    container.finishedAt = new Date()
    container.files.exit()
    this.#world.running.delete(container.id)
    for (const { networkId } of this.#joined(container))
      this.#world.networks.get(networkId)?.endpoints.delete(container.id)
    this.#world.events.tell('die', container)
    log.end()
  }

  #joined({ id }: Container): ContainerEndpoint[] {
    return [...(this.#world.joined.get(id) ?? [])].flatMap((networkId) => {
      const network = this.#world.networks.get(networkId)
      if (network === undefined) return []
      const address = network.endpoints.get(id) ?? ''
      return [{ networkId, networkName: network.spec.name, address, gateway: network.gateway }]
    })
  }

  #context(container: Container, signal: AbortSignal, stdin: InputBuffer, log: OutputLog): ShellContext {
    return {
      environment: container.spec.environment,
      signal,
      write: (stream, bytes) => log.write(stream, bytes),
      readStdin: () => stdin.readAll(signal),
      readFile: (path) => container.files.read(path),
      writeFile: (path, content) => container.files.write(path, content),
      onOom: () => this.#oom(container),
      killMarked: (name, value) => {
        for (const [exec, environment] of container.execs) if (environment[name] === value) exec.abort()
      },
    }
  }

  /** Runs the health check as often as it asks, while the container runs. */
  async #checkHealth(container: Container): Promise<void> {
    const { healthcheck } = container.spec
    if (healthcheck === undefined) return
    let health: EngineHealth = { status: 'starting', failingStreak: 0, checks: [] }
    container.health = health
    const { signal } = container.process
    while (!signal.aborted) {
      await delay(healthcheck.intervalSeconds * 1000, undefined, { signal, ref: false }).catch(() => {})
      if (container.status !== 'running') continue
      const log = new OutputLog()
      const input = new InputBuffer()
      input.end()
      const exitCode = await execute(healthcheck.command, this.#context(container, signal, input, log)).catch(() => 1)
      const failingStreak = exitCode === 0 ? 0 : health.failingStreak + 1
      const failed = failingStreak >= healthcheck.retries
      const output = log
        .tail(Number.MAX_SAFE_INTEGER)
        .map(({ bytes }) => bytes.toString())
        .join('')
      health = {
        status: exitCode === 0 ? 'healthy' : failed ? 'unhealthy' : health.status,
        failingStreak,
        checks: [...health.checks, { at: new Date(), exitCode, output }].slice(-5),
      }
      container.health = health
    }
  }

  #oom(container: Container): void {
    container.oomKilled = true
    this.#world.events.tell('oom', container)
  }

  #get(id: string): Container {
    const container = this.#containers.get(fullId(id))
    if (container === undefined) throw new EngineError('not_found', `No such container: ${id}`)
    return container
  }
}

/** Of a container that is given one at a path. */
function anonymousVolume(containerId: string, target: string): string {
  return createHash('sha256').update(`${containerId}${target}`).digest('hex')
}

function isUp({ status }: Container): boolean {
  return status === 'running' || status === 'paused'
}

function summaryOf({ id, spec, status, createdAt }: Container): ContainerSummary {
  return { id, name: spec.name, imageId: spec.imageId, labels: spec.labels, status, createdAt }
}

function sampleOf({ spec, startedAt }: Container): StatsSample {
  const at = new Date()
  return {
    at,
    cpuNanoseconds: (at.getTime() - (startedAt ?? at).getTime()) * 10_000,
    memoryBytes: 1024 * 1024,
    memoryLimitBytes: spec.resources.memoryBytes,
    memoryPeakBytes: 2 * 1024 * 1024,
    networkRxBytes: 0,
    networkTxBytes: 0,
    diskReadBytes: 0,
    diskWriteBytes: 0,
    pids: 1,
  }
}

function writableInto(buffer: InputBuffer): Writable {
  return new Writable({
    write(chunk: Buffer | string, _encoding, done) {
      buffer.write(Buffer.from(chunk))
      done()
    },
    final(done) {
      buffer.end()
      done()
    },
  })
}
