import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { EngineError, isEngineFault } from '../../errors.ts'
import type { Labels } from '../../labels.ts'
import type {
  Attachment,
  CommitOptions,
  ContainerState,
  ContainerSummary,
  Containers,
  Exec,
  ExecOptions,
  LogsOptions,
  OutputChunk,
  PathStat,
  StatsSample,
} from '../engine.ts'
import type { ContainerSpec } from '../spec.ts'
import { type ControlClient, checked } from './control-client.ts'
import { createContainerBody } from './create-options.ts'
import { demultiplex } from './demux.ts'
import { translate } from './faults.ts'
import { freezing } from './freezing.ts'
import { FullId, fullId, ImageId, requireSame } from './ids.ts'
import { jsonLines } from './json-lines.ts'
import { ContainerDetails, ContainerListItem, Instant, stateOf, summaryOf } from './state.ts'
import { StatsMessage, sampleOf } from './stats.ts'
import { guarded, type StreamClient } from './stream-client.ts'

const STOP_MARGIN_MS = 15_000
const START_DEADLINE_MS = 60_000
const REMOVE_DEADLINE_MS = 60_000
const GONE_POLL_MS = 25
const AMBIGUOUS_TRIES = 10
const AMBIGUOUS_PAUSE_MS = 200
const STAT_DEADLINE_MS = 15_000
/** Until a stream that may last begins. */
const ANSWER_MS = 30_000
/** For those whose owner sets none. */
const ARCHIVE_DEADLINE_MS = 5 * 60_000
const COMMIT_DEADLINE_MS = 10 * 60_000
/** Mode bits of Go's os.FileMode, as the archive calls send them. */
const GO_MODE_DIR = 2 ** 31
const GO_MODE_SYMLINK = 2 ** 27

const Created = z.looseObject({ Id: FullId })
const Waited = z.looseObject({ StatusCode: z.int() })
const Committed = z.looseObject({ Id: ImageId })
const PathStatHeader = z.looseObject({
  name: z.string(),
  size: z.int().nonnegative(),
  mode: z.int().nonnegative(),
  mtime: Instant,
  linkTarget: z.string().nullish(),
})
const ExecDetails = z.looseObject({ Running: z.boolean(), ExitCode: z.int().nullish() })

export class DockerContainers implements Containers {
  readonly #control: ControlClient
  readonly #streams: StreamClient

  constructor(control: ControlClient, streams: StreamClient) {
    this.#control = control
    this.#streams = streams
  }

  async create(spec: ContainerSpec): Promise<string> {
    const { Id } = await this.#control.read(Created, {
      doing: `creating container ${spec.name}`,
      method: 'POST',
      path: '/containers/create',
      query: { name: spec.name },
      body: createContainerBody(spec),
    })
    return Id
  }

  async start(id: string): Promise<void> {
    const doing = `starting container ${fullId(id)}`
    try {
      for (let attempt = 1; ; attempt++) {
        const refused = await this.#tryStart(id, doing)
        if (refused === undefined) return
        // Somebody made a network of the same name in the same moment: one of the two goes.
        if (attempt === AMBIGUOUS_TRIES || !/is ambiguous/.test(refused.message)) throw refused
        await sleep(AMBIGUOUS_PAUSE_MS)
      }
    } catch (error) {
      // The daemon reports a command that it cannot execute as 400, 404 or 500, by version.
      const refused = isEngineFault(error, 'not_found', 'invalid', 'conflict', 'failed')
      if (!refused || /no such container/i.test(error.message)) throw error
      throw new EngineError('start_failed', error.message, { cause: error })
    }
  }

  /** Answers the engine's refusal, where it is one. */
  async #tryStart(id: string, doing: string): Promise<EngineError | undefined> {
    try {
      await this.#control.call({
        doing,
        method: 'POST',
        path: `/containers/${id}/start`,
        mayBeDone: true,
        deadlineMs: START_DEADLINE_MS,
      })
      return undefined
    } catch (error) {
      if (error instanceof EngineError) return error
      throw error
    }
  }

  async rename(id: string, name: string): Promise<void> {
    await this.#control.call({
      doing: `renaming container ${id} to ${name}`,
      method: 'POST',
      path: `/containers/${fullId(id)}/rename`,
      query: { name },
    })
  }

  async stop(id: string, graceSeconds: number): Promise<void> {
    await this.#unlessGone(() =>
      this.#control.call({
        doing: `stopping container ${id}`,
        method: 'POST',
        path: `/containers/${fullId(id)}/stop`,
        query: { t: String(graceSeconds) },
        mayBeDone: true,
        deadlineMs: graceSeconds * 1000 + STOP_MARGIN_MS,
      }),
    )
  }

  async kill(id: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<boolean> {
    try {
      await this.#control.call({
        doing: `killing container ${id}`,
        method: 'POST',
        path: `/containers/${fullId(id)}/kill`,
        query: { signal },
      })
      return true
    } catch (error) {
      if (isEngineFault(error, 'not_found', 'conflict') || /is not running|not running/.test(String(error)))
        return false
      throw error
    }
  }

  async remove(id: string): Promise<boolean> {
    try {
      await this.#control.call({
        doing: `removing container ${id}`,
        method: 'DELETE',
        path: `/containers/${fullId(id)}`,
        query: { force: 'true', v: 'true' },
        deadlineMs: REMOVE_DEADLINE_MS,
      })
      return true
    } catch (error) {
      if (isEngineFault(error, 'not_found')) return false
      // Another removal of the same container is under way: it reaches the goal.
      if (isEngineFault(error, 'conflict') && /already in progress/i.test(error.message)) return this.#untilGone(id)
      throw error
    }
  }

  /** Waits for a removal that somebody else began: only then are volumes and networks of the container free. */
  async #untilGone(id: string): Promise<boolean> {
    const until = performance.now() + REMOVE_DEADLINE_MS
    while ((await this.inspect(id)) !== undefined) {
      if (performance.now() > until) throw new EngineError('deadline', `Container ${id} is still being removed`)
      await sleep(GONE_POLL_MS)
    }
    return true
  }

  async wait(id: string, signal?: AbortSignal): Promise<void> {
    const doing = `waiting for container ${fullId(id)}`
    const { body } = await this.#streams.open({ doing, method: 'POST', path: `/containers/${id}/wait`, signal })
    try {
      for await (const answer of jsonLines(body)) {
        checked(Waited, doing, answer)
        return
      }
    } catch (error) {
      throw translate(doing, error)
    }
    throw new EngineError('unavailable', `The engine closed the connection while ${doing}`)
  }

  async inspect(id: string): Promise<ContainerState | undefined> {
    const doing = `inspecting container ${id}`
    try {
      const path = `/containers/${fullId(id)}/json`
      const details = await this.#control.read(ContainerDetails, { doing, method: 'GET', path })
      requireSame(id, details.Id, doing)
      return stateOf(details)
    } catch (error) {
      if (isEngineFault(error, 'not_found')) return undefined
      throw error
    }
  }

  async list(labels: Labels): Promise<ContainerSummary[]> {
    const items = await this.#control.read(z.array(ContainerListItem), {
      doing: 'listing containers',
      method: 'GET',
      path: '/containers/json',
      query: { all: 'true', filters: labelFilter(labels) },
    })
    return items.map(summaryOf).filter((item) => carries(item.labels, labels))
  }

  async attach(id: string, options: { stdin: boolean; signal?: AbortSignal }): Promise<Attachment> {
    const doing = `attaching to container ${fullId(id)}`
    const socket = await this.#streams.upgrade({
      doing,
      method: 'POST',
      path: `/containers/${id}/attach`,
      query: { stream: 'true', stdout: 'true', stderr: 'true', ...(options.stdin ? { stdin: 'true' } : {}) },
      signal: options.signal,
      answerWithinMs: ANSWER_MS,
    })
    return {
      output: guarded(doing, demultiplex(socket), options.signal),
      stdin: socket,
      close: () => socket.destroy(),
    }
  }

  async *logs(id: string, { follow, tail, signal }: LogsOptions): AsyncGenerator<OutputChunk> {
    const doing = `reading the log of container ${fullId(id)}`
    const { body } = await this.#streams.open({
      doing,
      method: 'GET',
      path: `/containers/${id}/logs`,
      query: {
        stdout: 'true',
        stderr: 'true',
        follow: String(follow),
        ...(tail === undefined ? {} : { tail: String(tail) }),
      },
      signal,
      answerWithinMs: ANSWER_MS,
    })
    yield* guarded(doing, demultiplex(body), signal)
  }

  async *stats(id: string, signal: AbortSignal): AsyncGenerator<StatsSample> {
    const doing = `reading stats of container ${fullId(id)}`
    const { body } = await this.#streams.open({
      doing,
      method: 'GET',
      path: `/containers/${id}/stats`,
      query: { stream: 'true' },
      signal,
      answerWithinMs: ANSWER_MS,
    })
    for await (const message of guarded(doing, jsonLines(body), signal)) {
      const sample = sampleOf(checked(StatsMessage, doing, message))
      // The stream of a stopped container stays open and repeats an empty message.
      if (sample === undefined) return
      yield sample
    }
  }

  async sample(id: string): Promise<StatsSample | undefined> {
    try {
      const message = await this.#control.read(StatsMessage, {
        doing: `sampling container ${id}`,
        method: 'GET',
        path: `/containers/${fullId(id)}/stats`,
        query: { stream: 'false', 'one-shot': 'true' },
      })
      return sampleOf(message)
    } catch (error) {
      if (isEngineFault(error, 'not_found')) return undefined
      throw error
    }
  }

  async statPath(id: string, path: string): Promise<PathStat | undefined> {
    const doing = `looking at ${path} in container ${fullId(id)}`
    try {
      const { headers, body } = await this.#streams.open({
        doing,
        method: 'HEAD',
        path: `/containers/${id}/archive`,
        query: { path },
        answerWithinMs: STAT_DEADLINE_MS,
      })
      body.resume()
      const encoded = String(headers['x-docker-container-path-stat'] ?? '')
      const stat = checked(PathStatHeader, doing, JSON.parse(Buffer.from(encoded, 'base64').toString('utf8') || 'null'))
      return {
        name: stat.name,
        bytes: stat.size,
        isDirectory: Math.floor(stat.mode / GO_MODE_DIR) % 2 === 1,
        isSymlink: Math.floor(stat.mode / GO_MODE_SYMLINK) % 2 === 1,
        linkTarget: stat.linkTarget ?? '',
        modifiedAt: new Date(stat.mtime),
      }
    } catch (error) {
      if (isEngineFault(error, 'not_found')) return undefined
      throw translate(doing, error)
    }
  }

  async readArchive(id: string, path: string, signal = AbortSignal.timeout(ARCHIVE_DEADLINE_MS)): Promise<Readable> {
    const { body } = await this.#streams.open({
      doing: `reading ${path} from container ${fullId(id)}`,
      method: 'GET',
      path: `/containers/${id}/archive`,
      query: { path },
      signal,
      answerWithinMs: ANSWER_MS,
    })
    return body
  }

  async writeArchive(
    id: string,
    path: string,
    tar: Readable,
    signal = AbortSignal.timeout(ARCHIVE_DEADLINE_MS),
  ): Promise<void> {
    const { body } = await this.#streams.open({
      doing: `writing to ${path} in container ${fullId(id)}`,
      method: 'PUT',
      path: `/containers/${id}/archive`,
      query: { path, noOverwriteDirNonDir: 'true' },
      headers: { 'content-type': 'application/x-tar' },
      body: tar,
      signal,
    })
    body.resume()
  }

  async exec(id: string, options: ExecOptions): Promise<Exec> {
    const doing = `running ${options.command[0]} in container ${fullId(id)}`
    const { Id: execId } = await this.#control.read(Created, {
      doing,
      method: 'POST',
      path: `/containers/${id}/exec`,
      body: {
        AttachStdin: options.stdin,
        AttachStdout: true,
        AttachStderr: true,
        Tty: false,
        Cmd: [...options.command],
        ...(options.user === undefined ? {} : { User: options.user }),
        Env: Object.entries(options.environment ?? {}).map(([name, value]) => `${name}=${value}`),
      },
    })
    const socket = await this.#streams.upgrade({
      doing,
      method: 'POST',
      path: `/exec/${execId}/start`,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ Detach: false, Tty: false }),
      signal: options.signal,
      answerWithinMs: ANSWER_MS,
    })
    return {
      output: guarded(doing, demultiplex(socket), options.signal),
      stdin: socket,
      close: () => socket.destroy(),
      inspect: async () => {
        const details = await this.#control.read(ExecDetails, { doing, method: 'GET', path: `/exec/${execId}/json` })
        return { running: details.Running, exitCode: details.ExitCode ?? null }
      },
    }
  }

  async pause(id: string): Promise<void> {
    await this.#freezer(id, 'pause', /already paused/i)
  }

  async resume(id: string): Promise<void> {
    await this.#freezer(id, 'unpause', /is not paused/i)
  }

  /** `harmless` is what the daemon says where the goal is reached already. */
  async #freezer(id: string, action: 'pause' | 'unpause', harmless: RegExp): Promise<void> {
    try {
      await freezing(() =>
        this.#control.call({
          doing: `asking to ${action} container ${id}`,
          method: 'POST',
          path: `/containers/${fullId(id)}/${action}`,
        }),
      )
    } catch (error) {
      if (!harmless.test(String(error))) throw error
    }
  }

  async commit(id: string, options: CommitOptions): Promise<string> {
    const { reference, labels, entrypoint, command, user, workingDir, blankVariables } = options
    const tagAt = reference.lastIndexOf(':')
    const { Id } = await freezing(() =>
      this.#control.read(Committed, {
        doing: `making an image of container ${id}`,
        method: 'POST',
        path: '/commit',
        query: {
          container: fullId(id),
          repo: reference.slice(0, tagAt),
          tag: reference.slice(tagAt + 1),
          pause: 'true',
        },
        // What is left out here comes from the container's own configuration.
        body: {
          Labels: { ...labels },
          Entrypoint: [...entrypoint],
          Cmd: [...command],
          User: user,
          WorkingDir: workingDir,
          Env: blankVariables.map((name) => `${name}=`),
          Healthcheck: { Test: ['NONE'] },
        },
        deadlineMs: COMMIT_DEADLINE_MS,
      }),
    )
    return Id.startsWith('sha256:') ? Id : `sha256:${Id}`
  }

  async #unlessGone(act: () => Promise<unknown>): Promise<void> {
    try {
      await act()
    } catch (error) {
      if (!isEngineFault(error, 'not_found')) throw error
    }
  }
}

/** The `filters` value that asks for exact labels, beside other filters. */
export function labelFilter(labels: Labels, others: Record<string, readonly string[]> = {}): string {
  return JSON.stringify({ ...others, label: Object.entries(labels).map(([name, value]) => `${name}=${value}`) })
}

/** True where `actual` has every label of `wanted`: engines differ in how a filter matches. */
export function carries(actual: Labels, wanted: Labels): boolean {
  return Object.entries(wanted).every(([name, value]) => actual[name] === value)
}
