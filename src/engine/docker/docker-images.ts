import { z } from 'zod'
import { EngineError, isEngineFault } from '../../errors.ts'
import type { Labels } from '../../labels.ts'
import type { BuildBounds, BuildOptions, ImageInfo, Images } from '../engine.ts'
import { type ControlClient, checked } from './control-client.ts'
import { labelFilter } from './docker-containers.ts'
import { ImageId } from './ids.ts'
import { jsonLines } from './json-lines.ts'
import { Instant } from './state.ts'
import { guarded, type StreamClient } from './stream-client.ts'

const OUTPUT_TAIL = 8 * 1024
const EVENTS_DEADLINE_MS = 10_000

const ImageDetails = z.looseObject({
  Id: ImageId,
  Size: z.number().min(0).nullish(),
  // Empty or left out where an image does not say.
  Created: z.union([z.literal(''), Instant]).nullish(),
  Config: z
    .looseObject({
      Labels: z.record(z.string(), z.string()).nullish(),
      User: z.string().nullish(),
      WorkingDir: z.string().nullish(),
      Env: z.array(z.string()).nullish(),
      Entrypoint: z.array(z.string()).nullish(),
      Cmd: z.array(z.string()).nullish(),
    })
    .nullish(),
})

/** A line of a pull's or a build's progress. The status is 200 whatever comes in it. */
const Progress = z.looseObject({
  status: z.string().optional(),
  id: z.string().optional(),
  stream: z.string().optional(),
  error: z.string().optional(),
  errorDetail: z.looseObject({ message: z.string() }).optional(),
  aux: z.unknown().optional(),
})

const Built = z.looseObject({ ID: ImageId })

export class DockerImages implements Images {
  readonly #control: ControlClient
  readonly #streams: StreamClient

  constructor(control: ControlClient, streams: StreamClient) {
    this.#control = control
    this.#streams = streams
  }

  async inspect(reference: string): Promise<ImageInfo | undefined> {
    try {
      const { Id, Size, Created, Config } = await this.#control.read(ImageDetails, {
        doing: `inspecting image ${reference}`,
        method: 'GET',
        path: `/images/${imagePath(reference)}/json`,
      })
      return {
        id: prefixed(Id),
        bytes: Size ?? 0,
        createdAt: new Date(Created || 0),
        labels: Config?.Labels ?? {},
        user: Config?.User ?? '',
        workingDir: Config?.WorkingDir || '/',
        environment: Config?.Env ?? [],
        entrypoint: Config?.Entrypoint ?? [],
        command: Config?.Cmd ?? [],
      }
    } catch (error) {
      if (isEngineFault(error, 'not_found')) return undefined
      throw error
    }
  }

  async pull(
    reference: string,
    { onProgress, signal }: { onProgress?: (text: string) => void; signal?: AbortSignal },
  ): Promise<void> {
    const doing = `pulling image ${reference}`
    try {
      const { body } = await this.#streams.open({
        doing,
        method: 'POST',
        path: '/images/create',
        query: pullQuery(reference),
        signal,
      })
      let lines = 0
      for await (const line of guarded(doing, jsonLines(body))) {
        lines += 1
        const progress = checked(Progress, doing, line)
        const failure = progress.error ?? progress.errorDetail?.message
        if (failure !== undefined) throw pullFailure(reference, failure)
        if (progress.status !== undefined) onProgress?.([progress.id, progress.status].filter(Boolean).join(': '))
      }
      // Even of an image that is there an engine tells something.
      if (lines === 0) throw new EngineError('unavailable', `The engine ended the stream while ${doing}`)
    } catch (error) {
      if (isEngineFault(error, 'not_found', 'failed', 'invalid', 'conflict'))
        throw pullFailure(reference, error.message, error)
      throw error
    }
  }

  async build({ context, tag, labels, bounds, onOutput, signal }: BuildOptions): Promise<string> {
    const doing = `building image ${tag}`
    const { body } = await this.#streams
      .open({
        doing,
        method: 'POST',
        path: '/build',
        query: {
          t: tag,
          labels: JSON.stringify(labels),
          rm: 'true',
          forcerm: 'true',
          dockerfile: 'Dockerfile',
          ...boundsQuery(bounds),
        },
        headers: { 'content-type': 'application/x-tar' },
        body: context,
        signal,
      })
      .catch((error: unknown) => {
        if (!isEngineFault(error, 'invalid', 'failed', 'not_found')) throw error
        throw new EngineError('build_failed', `The Dockerfile was refused: ${error.message}`, { cause: error })
      })
    let tail = ''
    let id: string | undefined
    for await (const line of guarded(doing, jsonLines(body))) {
      const progress = checked(Progress, doing, line)
      if (progress.stream !== undefined) {
        tail = (tail + progress.stream).slice(-OUTPUT_TAIL)
        onOutput?.(progress.stream)
      }
      const failure = progress.error ?? progress.errorDetail?.message
      if (failure !== undefined) {
        throw new EngineError('build_failed', `The build failed: ${failure.trim()}`, {
          logsTail: tail,
          hint: 'Mend the Dockerfile.',
        })
      }
      const built = Built.safeParse(progress.aux)
      if (built.success) id = prefixed(built.data.ID)
    }
    // A build that ends without an id has been cut off: only the engine's word makes it a success.
    if (id === undefined)
      throw new EngineError('unavailable', `The engine ended the stream while ${doing}`, { logsTail: tail })
    return id
  }

  async changes(signal: AbortSignal): Promise<AsyncIterable<void>> {
    const doing = 'following images'
    const { body } = await this.#streams.open({
      doing,
      method: 'GET',
      path: '/events',
      query: { filters: JSON.stringify({ type: ['image'] }) },
      signal,
      answerWithinMs: EVENTS_DEADLINE_MS,
    })
    return changesOf(guarded(doing, jsonLines(body), signal))
  }

  async list(labels: Labels): Promise<string[]> {
    const items = await this.#control.read(z.array(z.looseObject({ Id: ImageId })), {
      doing: 'listing images',
      method: 'GET',
      path: '/images/json',
      query: { filters: labelFilter(labels) },
    })
    return items.map((item) => prefixed(item.Id))
  }

  async remove(id: string): Promise<boolean> {
    try {
      await this.#control.call({ doing: `removing image ${id}`, method: 'DELETE', path: `/images/${imagePath(id)}` })
      return true
    } catch (error) {
      if (isEngineFault(error, 'not_found')) return false
      throw error
    }
  }
}

const CPU_PERIOD_US = 100_000

function boundsQuery({ memoryBytes, cpus, network, cgroupParent }: BuildBounds): Record<string, string> {
  return {
    memory: String(memoryBytes),
    // Equal: no swap.
    memswap: String(memoryBytes),
    cpuperiod: String(CPU_PERIOD_US),
    cpuquota: String(Math.round(cpus * CPU_PERIOD_US)),
    networkmode: network,
    ...(cgroupParent === undefined ? {} : { cgroupparent: cgroupParent }),
  }
}

const REFERENCE = /^[A-Za-z0-9][A-Za-z0-9._:/@-]*$/

async function* changesOf(messages: AsyncIterable<unknown>): AsyncGenerator<void> {
  for await (const _message of messages) yield
}

/** A reference as a path: its slashes stay, and no segment may leave the path. */
function imagePath(reference: string): string {
  if (!REFERENCE.test(reference) || reference.split('/').some((part) => part === '' || part === '..' || part === '.')) {
    throw new EngineError('invalid', `"${reference.slice(0, 80)}" is not an image reference`)
  }
  return reference
}

function prefixed(id: string): string {
  return id.startsWith('sha256:') ? id : `sha256:${id}`
}

/** Without a tag the engine would pull every tag of the repository. */
function pullQuery(reference: string): Record<string, string> {
  imagePath(reference)
  if (reference.includes('@')) return { fromImage: reference }
  const colon = reference.lastIndexOf(':')
  if (colon > reference.lastIndexOf('/')) {
    return { fromImage: reference.slice(0, colon), tag: reference.slice(colon + 1) }
  }
  return { fromImage: reference, tag: 'latest' }
}

function pullFailure(reference: string, words: string, cause?: unknown): EngineError {
  const unknown = /not found|manifest unknown|does not exist|access denied|no such image|name unknown/i.test(words)
  return unknown
    ? new EngineError(
        'image_not_found',
        `Image ${reference} is not on this engine and its registry has none: ${words}`,
        {
          cause,
          hint: 'Check the name and the tag, and that the engine may pull it.',
        },
      )
    : new EngineError('pull_failed', `Image ${reference} could not be pulled: ${words}`, { cause })
}
