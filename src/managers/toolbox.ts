import { randomUUID } from 'node:crypto'
import { constants, readFile } from 'node:fs/promises'
import { posix } from 'node:path'
import { Readable } from 'node:stream'
import { pack } from 'tar-stream'
import type { Engine, ImageInfo } from '../engine/engine.ts'
import type { MountSpec, NetworkAttachment } from '../engine/spec.ts'
import { AppError } from '../errors.ts'
import { encodeLabels, type Ownership } from '../labels.ts'
import { planProgram, planUnstarted } from '../policy/container-policy.ts'
import { untilEnded } from './container-end.ts'
import type { DockerManager } from './docker-manager.ts'
import { mayUse } from './host-access.ts'
import { InFlight } from './in-flight.ts'
import { BUSYBOX, HOSTS_FILE, LAST_PROGRAM, packPrograms, programsDigest, TOOLBOX_FOLDER } from './toolbox-programs.ts'

const TOOLBOX_IMAGE = 'container-orchestrator/toolbox:1'
/** Where the image has the binary: a volume mounted there is filled with it by the engine. */
const FOLDER_IN_IMAGE = '/toolbox'
/** A folder of the image that every user may write to. */
const OPEN_FOLDER_IN_IMAGE = '/tmp'
const BINARIES = ['/opt/toolbox/busybox', '/usr/bin/busybox', '/bin/busybox']
const BUILD_DEADLINE_MS = 120_000
const RUN_DEADLINE_MS = 10_000

const DOCKERFILE = `FROM scratch
COPY busybox /bin/busybox
COPY busybox /toolbox/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN ["/bin/busybox", "mkdir", "-m", "1777", "/tmp"]
ENV PATH=/bin
CMD ["sh"]
`

/** A static busybox and programs for it, in a volume: what the service runs inside containers, whatever their image has. */
export class Toolbox {
  readonly #engine: Engine
  readonly #docker: DockerManager
  readonly #instance: string
  readonly #binary: string | undefined
  readonly #volumes = new InFlight<string>()
  /** By name, when they were made: one that is made anew is empty. */
  readonly #filled = new Map<string, number>()
  readonly #images = new InFlight<ImageInfo>()
  /** Absent as long as it was not looked for. */
  #onHost: { path: string | undefined } | undefined

  constructor(options: { engine: Engine; docker: DockerManager; instance: string; binary: string | undefined }) {
    this.#engine = options.engine
    this.#docker = options.docker
    this.#instance = options.instance
    this.#binary = options.binary
  }

  /** The read-only mount of the toolbox; image and volume are made where they are missing. */
  async mount(): Promise<MountSpec & { source: string }> {
    const source = await this.#volumes.share('volume', () => this.#volume())
    return { type: 'volume', source, target: TOOLBOX_FOLDER, readOnly: true }
  }

  /** Path on the engine's host of a file for /etc/hosts of a container without a network; undefined where the engine does not say. */
  async hostsFile(): Promise<string | undefined> {
    return this.#pathOnHost(HOSTS_FILE)
  }

  /** Path of the busybox as this host has it; undefined where that is not the engine's, or this process may not run it. */
  async programOnHost(): Promise<string | undefined> {
    if (this.#onHost === undefined) {
      const path = await this.#pathOnHost(posix.basename(BUSYBOX))
      this.#onHost = { path: path !== undefined && (await mayUse(path, constants.X_OK)) ? path : undefined }
    }
    return this.#onHost.path
  }

  async #pathOnHost(file: string): Promise<string | undefined> {
    const { source } = await this.mount()
    const { mountpoint } = (await this.#engine.volumes.inspect(source)) ?? {}
    return mountpoint === undefined ? undefined : posix.join(mountpoint, file)
  }

  /** Runs a program of the toolbox in a container of its own, and answers its exit code. */
  async run(program: string, network: NetworkAttachment, runtime: string | undefined): Promise<number> {
    const [image, mount] = await Promise.all([this.#image(), this.mount()])
    const nonce = randomUUID()
    const containerId = await this.#docker.create({
      owner: { kind: 'toolbox', id: program, nonce },
      containerName: `toolbox_${nonce}`,
      imageId: image.id,
      plan: planProgram([program], [mount], runtime),
      network,
    })
    try {
      await this.#engine.containers.start(containerId)
      const signal = AbortSignal.timeout(RUN_DEADLINE_MS)
      const state = await untilEnded(this.#engine.containers, containerId, { signal })
      if (state === undefined)
        throw new AppError('engine_error', `The container of ${program} was removed while it ran`)
      return state.exitCode
    } finally {
      this.#docker.removeLater(containerId)
    }
  }

  /**
   * A volume that any user may write to, for a run whose image's user is not root. The engine makes it
   * so by copying the mode of the toolbox's /tmp; nothing else can before the run starts.
   */
  async openVolume(name: string, owner: Omit<Ownership, 'instance' | 'kind'>): Promise<void> {
    const image = await this.#image()
    await this.#engine.volumes.create(name, encodeLabels({ ...owner, kind: 'volume', instance: this.#instance }))
    await this.#fill(name, OPEN_FOLDER_IN_IMAGE, image.id, owner.session)
  }

  async #volume(): Promise<string> {
    const image = await this.#image()
    const made = `${image.id.slice('sha256:'.length, 'sha256:'.length + 12)}_${programsDigest()}`
    const name = `toolbox_${this.#instance.slice(0, 8)}_${made}`
    const present = this.#filled.has(name) ? await this.#engine.volumes.inspect(name) : undefined
    if (present !== undefined && this.#filled.get(name) === present.createdAt.getTime()) return name
    const labels = encodeLabels({ kind: 'toolbox', id: name, nonce: randomUUID(), instance: this.#instance })
    await this.#engine.volumes.create(name, labels)
    await this.#fill(name, FOLDER_IN_IMAGE, image.id, undefined, async (containerId) => {
      // One that an earlier process filled to its end stays as it is: containers run with it.
      const last = await this.#engine.containers.statPath(containerId, `${FOLDER_IN_IMAGE}/${LAST_PROGRAM}`)
      if (last === undefined) await this.#engine.containers.writeArchive(containerId, FOLDER_IN_IMAGE, packPrograms())
    })
    const filled = await this.#engine.volumes.inspect(name)
    if (filled === undefined) throw new AppError('engine_error', 'The toolbox volume vanished after it was filled')
    this.#filled.set(name, filled.createdAt.getTime())
    return name
  }

  /** Creating a container fills an empty volume from the image's folder; nothing is started. */
  async #fill(
    volume: string,
    folder: string,
    imageId: string,
    session?: string,
    addTo?: (containerId: string) => Promise<void>,
  ): Promise<void> {
    const nonce = randomUUID()
    const containerId = await this.#docker.create({
      owner: { kind: 'toolbox', id: volume, session, nonce },
      containerName: `fill_${nonce}`,
      imageId,
      plan: planUnstarted([{ type: 'volume', source: volume, target: folder, readOnly: false }]),
      network: { mode: 'none' },
    })
    try {
      await addTo?.(containerId)
    } finally {
      this.#docker.removeLater(containerId)
    }
  }

  async #image(): Promise<ImageInfo> {
    return (await this.#engine.images.inspect(TOOLBOX_IMAGE)) ?? this.#images.share('image', () => this.#build())
  }

  async #build(): Promise<ImageInfo> {
    const context = pack()
    context.entry({ name: 'busybox', mode: 0o755 }, await this.#readBinary())
    context.entry({ name: 'Dockerfile' }, DOCKERFILE)
    context.finalize()
    await this.#engine.images.build({
      context: Readable.from(context),
      tag: TOOLBOX_IMAGE,
      labels: {},
      bounds: { memoryBytes: 256 * 1024 ** 2, cpus: 1, network: 'none' },
      signal: AbortSignal.timeout(BUILD_DEADLINE_MS),
    })
    const image = await this.#engine.images.inspect(TOOLBOX_IMAGE)
    if (image === undefined) throw new AppError('engine_error', 'The toolbox image vanished after it was built')
    return image
  }

  async #readBinary(): Promise<Buffer> {
    for (const path of this.#binary === undefined ? BINARIES : [this.#binary]) {
      if (await mayUse(path, constants.R_OK)) return readFile(path)
    }
    throw new AppError(
      'internal_error',
      `The engine has no image ${TOOLBOX_IMAGE}, and there is no static busybox to make it from`,
      {
        hint: "Install Debian's busybox-static, or name a static busybox in CO_TOOLBOX_BINARY.",
      },
    )
  }
}
