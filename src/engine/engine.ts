/**
 * What managers may ask of a container engine. The Docker adapter and the in-memory fake implement
 * it, and both pass the contract suite in test/contract.
 *
 * Rules that hold for every method:
 * - It rejects with an `EngineError` and with nothing else; `doing` what failed is in its message.
 * - Container and network ids are 64 lower-case hex digits; other strings are refused unsent.
 * - A call that answers once has a deadline; one that may last (wait, attach, logs, stats, exec,
 *   pull, build, events) ends with the `AbortSignal` of its owner.
 * - Goals are states: removing what is gone and stopping what is stopped succeed.
 * - While `availability` says that the engine is away, every call but `ping` fails at once.
 */
import type { Readable, Writable } from 'node:stream'
import type { Labels } from '../labels.ts'
import type { Availability } from './availability.ts'
import type { HalfClose } from './half-close.ts'
import type { ContainerSpec, NetworkIsolation, NetworkSpec } from './spec.ts'

export interface Engine {
  readonly containers: Containers
  readonly networks: Networks
  readonly images: Images
  readonly volumes: Volumes
  readonly availability: Availability
  readonly halfClose: HalfClose
  /** Reaches the engine, negotiates the API version and learns what it can do. */
  connect(): Promise<EngineInfo>
  /** Resolves when the engine answers. */
  ping(): Promise<void>
  /**
   * What happens to containers that carry these labels, as it happens, once the engine has agreed to
   * tell. Rejects where the connection breaks; what happened in between is not told again: it is a hint.
   */
  events(labels: Labels, signal: AbortSignal): Promise<AsyncIterable<EngineEvent>>
  /**
   * True where it has been up since it made a container, as far as it can tell: not after a restart, nor
   * where much happened since. One that was killed while it started the container may say `created` of it
   * although the process ran.
   */
  remembersMaking(container: Pick<ContainerState, 'id' | 'createdAt'>): Promise<boolean>
  /** Ends the connections that this client holds; the engine and its containers go on. */
  close(): Promise<void>
}

/** Something that happened to a container. */
export interface EngineEvent {
  containerId: string
  /** In the engine's words: `create`, `start`, `oom`, `die`, `destroy`. */
  action: string
  at: Date
}

export interface EngineInfo {
  /** `docker`, `podman` or `memory`. */
  name: string
  version: string
  apiVersion: string
  os: string
  arch: string
  kernel: string
  cores: number
  memoryBytes: number
  storageDriver: string
  /** Folder of the engine's host in which it keeps everything; empty where it does not tell. */
  dataRoot: string
  /** Names of the runtimes that it has. */
  runtimes: readonly string[]
  /** Version of runc, where the engine tells it. */
  runc?: string
  capabilities: EngineCapabilities
}

export interface EngineCapabilities {
  /** Device requests can be served. */
  gpu: boolean
  /** Inspect tells whether the kernel killed for memory. */
  oomFlag: boolean
  /** A single sample is told at once, and not with the next round of its streams. */
  oneShotStats: boolean
  /** The strongest that it can give a network, by its name and version. */
  isolation: NetworkIsolation
}

export type OutputStream = 'stdout' | 'stderr'

/** A piece of output, at most 64 KiB; not aligned to lines or characters. */
export interface OutputChunk {
  stream: OutputStream
  bytes: Buffer
}

export interface Attachment {
  /** Ends when the container's process ends; breaking out of it detaches. */
  output: AsyncIterable<OutputChunk>
  /** The process's stdin where the container was created with `openStdin`; ending it is its EOF. */
  stdin: Writable
  /** Detaches; the container is not affected. Harmless when repeated. */
  close(): void
}

export interface ContainerState {
  id: string
  name: string
  imageId: string
  labels: Labels
  status: 'created' | 'running' | 'paused' | 'exited' | 'dead' | 'restarting' | 'removing'
  createdAt: Date
  /** Absent where the container never started, or its engine was killed while it did. */
  startedAt?: Date
  /** Absent while it runs and where it never started. */
  finishedAt?: Date
  /** Of the last end; meaningless before the first. */
  exitCode: number
  /** The kernel killed a process of this container for lack of memory. */
  oomKilled: boolean
  /** The engine's own words on a start that failed; empty otherwise. */
  error: string
  /** By network id; empty address while the container does not run. */
  networks: readonly ContainerEndpoint[]
  /** Path of its network namespace on the engine's host; absent where it does not run, or has none of the engine's. */
  networkNamespace?: string
  ports: readonly PublishedPort[]
  mounts: readonly MountedPath[]
  /** As the container was made; empty for the image's own. */
  user: string
  limits: ContainerLimits
  /** Absent where no health check was asked for. */
  health?: EngineHealth
}

/** What is mounted where: `source` is a path of the engine's host. */
export interface MountedPath {
  source: string
  target: string
  /** Name of the volume, where it is one. */
  volume?: string
  /** Absent where the container can write to it. */
  readOnly?: true
}

/** What a container may use at most; 0 where nothing bounds it. */
export interface ContainerLimits {
  memoryBytes: number
  /** In cores. */
  cpus: number
  pids: number
}

/** What the engine's own health checks found. */
export interface EngineHealth {
  status: 'starting' | 'healthy' | 'unhealthy'
  /** Failures in a row, up to now. */
  failingStreak: number
  /** The last ones, oldest first. */
  checks: readonly HealthCheck[]
}

export interface HealthCheck {
  at: Date
  exitCode: number
  output: string
}

export interface ContainerEndpoint {
  networkId: string
  networkName: string
  address: string
  gateway: string
}

export interface PublishedPort {
  containerPort: number
  hostIp: string
  hostPort: number
}

export interface ContainerSummary {
  id: string
  name: string
  imageId: string
  labels: Labels
  status: ContainerState['status']
  createdAt: Date
}

/** One sample of a container's use. Totals since its start, null where the engine does not tell. */
export interface StatsSample {
  at: Date
  cpuNanoseconds: number
  /** In use without page cache, as `docker stats` shows it. */
  memoryBytes: number
  memoryLimitBytes: number
  /** Highest use seen by the kernel; null where it keeps none (cgroup v2). */
  memoryPeakBytes: number | null
  networkRxBytes: number | null
  networkTxBytes: number | null
  diskReadBytes: number | null
  diskWriteBytes: number | null
  pids: number | null
}

export interface PathStat {
  name: string
  bytes: number
  isDirectory: boolean
  isSymlink: boolean
  /** Where a symlink points, as it is written; empty otherwise. */
  linkTarget: string
  modifiedAt: Date
}

export interface LogsOptions {
  follow: boolean
  /** Last lines only; all where absent. */
  tail?: number
  signal?: AbortSignal
}

export interface ExecOptions {
  command: readonly string[]
  stdin: boolean
  /** The container's own where absent. */
  user?: string
  /** Beside the container's. */
  environment?: Readonly<Record<string, string>>
  signal?: AbortSignal
}

export interface Exec extends Attachment {
  /** The engine's word on it, the only source of an exit code. */
  inspect(): Promise<{ running: boolean; exitCode: number | null }>
}

export interface Containers {
  /** Creates, without starting, and answers the id. An existing name is a `conflict`. */
  create(spec: ContainerSpec): Promise<string>
  /** A process that cannot be executed, or a set-up that fails, is a `start_failed`. */
  start(id: string): Promise<void>
  /** Gives it another name, running or not. A taken one is a `conflict`. */
  rename(id: string, name: string): Promise<void>
  /** Asks the process to end with SIGTERM, and kills it after the grace. */
  stop(id: string, graceSeconds: number): Promise<void>
  /** False where nothing ran that could be killed. */
  kill(id: string, signal?: NodeJS.Signals): Promise<boolean>
  /** Removes it with its anonymous volumes, running or not; false where it was gone. */
  remove(id: string): Promise<boolean>
  /** Resolves when it does not run; ask `inspect` how it ended. Call it after `start`. */
  wait(id: string, signal?: AbortSignal): Promise<void>
  /** Undefined where no such container exists. */
  inspect(id: string): Promise<ContainerState | undefined>
  /** Running or not, that carry all these labels exactly. */
  list(labels: Labels): Promise<ContainerSummary[]>
  /** Attach between `create` and `start`: then no output is missed. */
  attach(id: string, options: { stdin: boolean; signal?: AbortSignal }): Promise<Attachment>
  /** What the engine kept of the output, oldest first. */
  logs(id: string, options: LogsOptions): AsyncIterable<OutputChunk>
  /** About one a second, the first at once, until the container ends. */
  stats(id: string, signal: AbortSignal): AsyncIterable<StatsSample>
  /** One sample; at once with the capability `oneShotStats`, within seconds otherwise. Undefined where it does not run. */
  sample(id: string): Promise<StatsSample | undefined>
  /** Undefined where there is no such path; works on stopped containers. */
  statPath(id: string, path: string): Promise<PathStat | undefined>
  /** A tar of a file or folder; its first entry is named after the path's last part. */
  readArchive(id: string, path: string, signal?: AbortSignal): Promise<Readable>
  /** Unpacks a tar into an existing folder. */
  writeArchive(id: string, path: string, tar: Readable, signal?: AbortSignal): Promise<void>
  /** Starts a command in a running container, attached. */
  exec(id: string, options: ExecOptions): Promise<Exec>
  /** Freezes every process of it; harmless where it is frozen. */
  pause(id: string): Promise<void>
  /** Thaws it; harmless where it is not frozen. */
  resume(id: string): Promise<void>
  /** Makes an image of its root file system (without mounts), and answers the image's id. */
  commit(id: string, options: CommitOptions): Promise<string>
}

/** What an image that is made of a container says; the container's own set-up does not go into it. */
export interface CommitOptions {
  reference: string
  labels: Labels
  entrypoint: readonly string[]
  command: readonly string[]
  user: string
  workingDir: string
  /** Names of variables of the container's that the image has with an empty value. */
  blankVariables: readonly string[]
}

export interface NetworkState {
  id: string
  name: string
  labels: Labels
  internal: boolean
  /** As it was asked for: an engine keeps an option that it does not know, and does nothing. */
  isolation: NetworkIsolation
  subnets: readonly string[]
  /** What its containers take for their way out; nobody has the address where the bridge has none. */
  gateway: string | undefined
  createdAt: Date
  /** Ids of the containers that are attached and running. */
  containers: readonly string[]
}

export interface Networks {
  /** Creates a bridge. A taken name is a `conflict`, a taken range a `subnet_overlap`. */
  create(spec: NetworkSpec): Promise<string>
  inspect(id: string): Promise<NetworkState | undefined>
  /** That carry all these labels exactly; `containers` is empty in a list. */
  list(labels: Labels): Promise<NetworkState[]>
  /** With containers attached: a `conflict`. False where it was gone. */
  remove(id: string): Promise<boolean>
  /** Attaches a container, running or not, to a further network, as these names there. */
  connect(id: string, containerId: string, aliases: readonly string[]): Promise<void>
  /** Detaches a container, running or not; harmless where it is not attached. */
  disconnect(id: string, containerId: string): Promise<void>
}

export interface ImageInfo {
  /** `sha256:…`, what containers are created from. */
  id: string
  bytes: number
  createdAt: Date
  labels: Labels
  /** Empty for root. */
  user: string
  workingDir: string
  environment: readonly string[]
  entrypoint: readonly string[]
  command: readonly string[]
}

/** What the steps of a build may use. */
export interface BuildBounds {
  /** Of each step; swap is off. */
  memoryBytes: number
  /** In cores. */
  cpus: number
  /** Of what a step runs: none, or the engine's default, with a way out. */
  network: 'none' | 'bridge'
  cgroupParent?: string
}

export interface BuildOptions {
  /** A tar of the context, with a file `Dockerfile` in it. */
  context: Readable
  tag: string
  labels: Labels
  bounds: BuildBounds
  onOutput?: (text: string) => void
  signal?: AbortSignal
}

export interface Images {
  /** By reference or id; undefined where the engine does not have it. */
  inspect(reference: string): Promise<ImageInfo | undefined>
  /** `image_not_found` where the registry does not know it, `pull_failed` otherwise. */
  pull(reference: string, options: { onProgress?: (text: string) => void; signal?: AbortSignal }): Promise<void>
  /** Answers the image's id; `build_failed` with the output's tail where a step fails. */
  build(options: BuildOptions): Promise<string>
  /** That carry all these labels: ids. */
  list(labels: Labels): Promise<string[]>
  /** False where it was gone; in use by a container: a `conflict`. */
  remove(id: string): Promise<boolean>
  /**
   * One for each time that images come, go or change their names, from when the engine has agreed to tell.
   * Rejects where the connection breaks; what happened in between is not told again.
   */
  changes(signal: AbortSignal): Promise<AsyncIterable<void>>
}

export interface VolumeState {
  name: string
  labels: Labels
  createdAt: Date
  /** Where its files are on the engine's host; absent where the engine does not say. */
  mountpoint?: string
}

export interface Volumes {
  /** Creates a named volume of the local driver without options; an existing one stays as it is. */
  create(name: string, labels: Labels): Promise<void>
  inspect(name: string): Promise<VolumeState | undefined>
  list(labels: Labels): Promise<VolumeState[]>
  /** In use: a `conflict`. False where it was gone. */
  remove(name: string): Promise<boolean>
}
