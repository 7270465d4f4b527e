import { createHash, randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { pack } from 'tar-stream'
import type { BuildBounds, Engine, ImageInfo } from '../engine/engine.ts'
import { AppError, EngineError, isEngineFault } from '../errors.ts'
import { decodeLabels, encodeLabels, type Ownership, ownedBy } from '../labels.ts'
import { baseImages, requireAllowedDockerfile } from '../policy/dockerfile.ts'
import { engineReference, isAllowedImage, requireAllowedImage } from '../policy/images.ts'
import { type Profile, requireBuildAllowed } from '../policy/profiles.ts'
import type { ImageCache } from './image-cache.ts'
import { InFlight } from './in-flight.ts'
import type { Log } from './log.ts'

/** Where a request says its image comes from: exactly one of the three. */
export interface ImageSource {
  image?: string | undefined
  dockerfile?: string | undefined
  build?: { dockerfile: string; files: Record<string, string> } | undefined
}

/** What builds from Dockerfiles in requests may use. */
export interface BuildPolicy extends BuildBounds {
  /** For the whole build. */
  timeoutSeconds: number
  /** A larger image is removed, and its build failed. */
  maxImageBytes?: number | undefined
}

/** For whom an image is: for a container in a session (empty for none), and whose that is. */
export interface ImageUse {
  session: string
  owner: string | null
}

export interface ResolvedImage extends ImageInfo {
  /** What the caller named, or the tag of what was built. */
  reference: string
}

const PULL_DEADLINE_MS = 15 * 60_000
const PROGRESS_INTERVAL_MS = 1_000
const BUILD_REPOSITORY = 'container-orchestrator/build'
/**
 * Made by the service or its set-up, and never pulled: whoever had that name in a registry would have a program in
 * every container.
 */
const OWN_IMAGES = ['container-orchestrator/**']

/** Images on the engine: pulls and builds them when they are missing, one of each at a time. */
export class ImageManager {
  readonly #engine: Engine
  readonly #instance: string
  readonly #allowedImages: readonly string[]
  readonly #allowBuild: boolean
  readonly #build: BuildPolicy
  readonly #log: Log
  readonly #cache: Pick<ImageCache, 'inspect' | 'forget'>
  readonly #acquisitions = new InFlight<void>()

  constructor(options: {
    engine: Engine
    instance: string
    allowedImages: readonly string[]
    allowBuild: boolean
    build: BuildPolicy
    log: Log
    cache: Pick<ImageCache, 'inspect' | 'forget'>
  }) {
    this.#cache = options.cache
    this.#build = options.build
    this.#engine = options.engine
    this.#instance = options.instance
    this.#allowedImages = options.allowedImages
    this.#allowBuild = options.allowBuild
    this.#log = options.log
  }

  /** Refuses (`policy_denied`) a source that the operator does not allow, before anything is made. */
  requireAllowed(source: ImageSource, profile: Profile): void {
    const lists = [this.#allowedImages, ...profile.images]
    if (source.image !== undefined) {
      requireAllowedImage(source.image, lists)
      return
    }
    if (!this.#allowBuild) {
      throw new AppError('policy_denied', 'Dockerfiles in requests are switched off here', {
        rule: 'build',
        hint: 'Name an image, or have the operator set CO_ALLOW_BUILD=true.',
      })
    }
    requireBuildAllowed(profile)
    requireAllowedDockerfile(contextOf(source).dockerfile, lists)
  }

  /** The image of a request where the engine has it. Throws where it was made for others. */
  async present(source: ImageSource, use: ImageUse): Promise<ResolvedImage | undefined> {
    const reference = this.#referenceOf(source, use)
    const present = await this.#cache.inspect(reference)
    // What was built is told by its tag to be of this session.
    if (source.image !== undefined) this.#requireOwn(reference, present, use)
    return present && { ...present, reference: source.image ?? reference }
  }

  /** The image of a request, present on the engine. An abort ends the waiting, not a pull that others share. */
  async resolve(source: ImageSource, use: ImageUse, signal: AbortSignal): Promise<ResolvedImage> {
    const present = await this.present(source, use)
    if (present !== undefined) return present
    const reference = this.#referenceOf(source, use)
    // Nothing is begun for whom nobody waits: its failure would have nobody to hear it, and would end the service.
    signal.throwIfAborted()
    const acquisition = this.#acquisitions.share(reference, async () => {
      // It may have become present between the look above and this turn.
      if ((await this.#engine.images.inspect(reference)) !== undefined) return
      await (source.image === undefined ? this.#make(source, use, reference) : this.#pull(reference))
    })
    await unlessAborted(acquisition, signal)
    const acquired = await this.#engine.images.inspect(reference)
    if (acquired === undefined)
      throw new AppError('engine_error', `Image ${reference} vanished after it was made ready`)
    return { ...acquired, reference: source.image ?? reference }
  }

  #referenceOf(source: ImageSource, { session }: ImageUse): string {
    return source.image === undefined ? this.#buildTag(source, session) : engineReference(source.image)
  }

  /**
   * Refuses what was built or snapshotted for others: another owner, or another session than that of the
   * image. Names and ids of images are no secrets. Where callers are not told apart, everything is everyone's.
   */
  #requireOwn(reference: string, image: ImageInfo | undefined, { session, owner }: ImageUse): void {
    const made = decodeLabels(image?.labels ?? {})
    if (owner === null || made?.kind !== 'image') return
    const isOwn = made.instance === this.#instance && made.owner === owner && (made.session ?? session) === session
    if (isOwn) return
    throw new EngineError('image_not_found', `There is no image "${reference}"`, {
      hint: 'An image that was made of a worker or a Dockerfile is for its owner and session alone.',
    })
  }

  /** The engine pulls what it does not have of a build. */
  async #requireUsableBase(base: string, use: ImageUse): Promise<void> {
    // It could be any image's name.
    if (base.includes('$')) {
      if (use.owner === null) return
      throw new EngineError('build_failed', `The base image "${base}" depends on an argument`, {
        hint: 'Write the name out.',
      })
    }
    const image = await this.#engine.images.inspect(engineReference(base)).catch((error: unknown) => {
      // No image can have such a name: the build says so.
      if (isEngineFault(error, 'invalid')) return undefined
      throw error
    })
    if (image === undefined && isAllowedImage(base, OWN_IMAGES)) throw neverPulled(base)
    this.#requireOwn(base, image, use)
  }

  /** Removes the images that were built for a session; those in use stay until they are not. */
  async removeBuilt(sessionId: string): Promise<void> {
    for (const id of await this.#engine.images.list(ownedBy(this.#instance, 'image', sessionId))) {
      await this.#removeUnused(id)
    }
  }

  /** Removes the images that were built before a time and that no container uses; answers how many. */
  async expireBuilt(before: Date): Promise<number> {
    let removed = 0
    for (const id of await this.#engine.images.list(ownedBy(this.#instance, 'image'))) {
      const image = await this.#engine.images.inspect(id)
      // What was made of a worker on request stays until it is removed on request.
      const isBuilt = decodeLabels(image?.labels ?? {})?.id.startsWith(`${BUILD_REPOSITORY}:`) ?? false
      if (isBuilt && image !== undefined && image.createdAt < before && (await this.#removeUnused(id))) removed += 1
    }
    return removed
  }

  /** By the tag that it was made under: what others built on it carries the same labels, and stays. */
  async #removeUnused(id: string): Promise<boolean> {
    const tag = decodeLabels((await this.#engine.images.inspect(id))?.labels ?? {})?.id
    if (tag === undefined || (await this.#engine.images.inspect(tag))?.id !== id) return false
    try {
      const removed = await this.#engine.images.remove(tag)
      this.#cache.forget()
      return removed
    } catch (error) {
      if (isEngineFault(error, 'conflict')) return false
      throw error
    }
  }

  async #pull(reference: string): Promise<void> {
    if (isAllowedImage(reference, OWN_IMAGES)) throw neverPulled(reference)
    const began = performance.now()
    let told = 0
    this.#log.info({ event: 'image.pull_started', image: reference }, 'pulling image')
    await this.#engine.images.pull(reference, {
      signal: AbortSignal.timeout(PULL_DEADLINE_MS),
      onProgress: (progress) => {
        if (performance.now() - told < PROGRESS_INTERVAL_MS) return
        told = performance.now()
        this.#log.info({ event: 'image.pull_progress', image: reference, progress }, 'pulling image')
      },
    })
    this.#log.info({ event: 'image.pulled', image: reference, duration_ms: elapsed(began) }, 'image pulled')
  }

  async #make(source: ImageSource, use: ImageUse, tag: string): Promise<void> {
    const began = performance.now()
    const { dockerfile, files } = contextOf(source)
    for (const base of baseImages(dockerfile)) await this.#requireUsableBase(base, use)
    const context = pack()
    for (const [name, text] of Object.entries(files)) context.entry({ name, mode: 0o644 }, text)
    // Last: an entry of the same name among the files does not count.
    context.entry({ name: 'Dockerfile', mode: 0o644 }, dockerfile)
    context.finalize()
    const owner: Ownership = {
      instance: this.#instance,
      kind: 'image',
      id: tag,
      session: use.session,
      owner: use.owner ?? undefined,
      nonce: randomUUID(),
    }
    const { timeoutSeconds } = this.#build
    const signal = AbortSignal.timeout(timeoutSeconds * 1000)
    await this.#engine.images
      .build({
        context: Readable.from(context),
        tag,
        labels: encodeLabels(owner),
        bounds: this.#build,
        signal,
        onOutput: (text) => this.#log.debug({ event: 'image.build_output', tag, text }, 'building image'),
      })
      .catch((error: unknown) => {
        if (!signal.aborted) throw error
        throw new EngineError('build_failed', `The build took longer than ${timeoutSeconds} seconds`, { cause: error })
      })
    await this.#requireSize(tag)
    this.#log.info(
      { event: 'image.built', image: tag, session_id: use.session, duration_ms: elapsed(began) },
      'image built',
    )
  }

  /** Refuses (`build_failed`) and removes an image that is larger than the operator allows. */
  async #requireSize(tag: string): Promise<void> {
    const { maxImageBytes } = this.#build
    if (maxImageBytes === undefined) return
    const image = await this.#engine.images.inspect(tag)
    if (image === undefined || image.bytes <= maxImageBytes) return
    await this.#removeUnused(image.id)
    const megabytes = (bytes: number) => Math.ceil(bytes / 1024 ** 2)
    throw new EngineError(
      'build_failed',
      `The image has ${megabytes(image.bytes)} MB; builds may have ${megabytes(maxImageBytes)}`,
      { hint: 'Build from a smaller base image, or put less into it.' },
    )
  }

  /** One tag for each session and content: a build cannot take the place of another session's image. */
  #buildTag(source: ImageSource, sessionId: string): string {
    const { dockerfile, files } = contextOf(source)
    const content = JSON.stringify([dockerfile, Object.entries(files).sort(([a], [b]) => (a < b ? -1 : 1))])
    const hash = createHash('sha256').update(`${this.#instance}\n${sessionId}\n${content}`).digest('hex')
    return `${BUILD_REPOSITORY}:${hash.slice(0, 32)}`
  }
}

function contextOf(source: ImageSource): { dockerfile: string; files: Record<string, string> } {
  return source.build ?? { dockerfile: source.dockerfile ?? '', files: {} }
}

function neverPulled(reference: string): EngineError {
  return new EngineError('image_not_found', `There is no image "${reference}" on the engine, and none is pulled`, {
    hint: 'Images of that name are made on this machine: the toolbox by npm start, the image for egress by npm run egress-image.',
  })
}

function elapsed(began: number): number {
  return Math.round(performance.now() - began)
}

/** Waits for `work` until the signal, which has not aborted yet, does; the work itself goes on. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let abort: (() => void) | undefined
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason)
    signal.addEventListener('abort', abort)
  })
  try {
    return await Promise.race([work, aborted])
  } finally {
    if (abort) signal.removeEventListener('abort', abort)
  }
}
