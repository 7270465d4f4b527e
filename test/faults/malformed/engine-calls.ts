/** Each method of an Engine: what an engine answers to it, and what it may conclude from an answer. */
import { readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import type { DockerEngine } from '../../../src/engine/docker/docker-engine.ts'
import type { Attachment, ContainerState, EngineInfo, NetworkState, OutputChunk } from '../../../src/engine/engine.ts'
import { leastContainer } from '../../fixtures/container-spec.ts'
import type { Body, Delivered, Golden } from './mutate.ts'

/** Recorded from Docker 20.10.24, without the fields that nobody reads. */
const recorded = JSON.parse(readFileSync(new URL('golden-replies.json', import.meta.url), 'utf8')) as Record<
  string,
  unknown
>

const CONTAINER = (recorded['inspectRunning'] as { Id: string }).Id
const NETWORK = (recorded['network'] as { Id: string }).Id
const IMAGE = (recorded['image'] as { Id: string }).Id
const LABELS = { a: 'b' }

export interface EngineCall {
  name: string
  /** To its requests, in their order. */
  replies: readonly Golden[]
  /** Makes the call, and takes all that it gives. */
  make(engine: DockerEngine, signal: AbortSignal): Promise<unknown>
  /** Why this result does not follow from these replies; undefined where it does. */
  lie(value: unknown, told: readonly Delivered[], aborted: boolean): string | undefined
}

const json = (status: number, key: string): Golden => ({ status, body: { kind: 'json', value: recorded[key] } })
const lines = (status: number, values: readonly unknown[]): Golden => ({ status, body: { kind: 'lines', values } })
const NO_CONTENT: Golden = { status: 204, body: { kind: 'none' } }
const FRAMES: Body = {
  kind: 'frames',
  frames: [
    { type: 1, bytes: Buffer.from('out\n') },
    { type: 2, bytes: Buffer.from('err\n') },
    { type: 1, bytes: Buffer.from('ü€\n') },
  ],
}
const OUTPUT = 'out\nü€\n|err\n'
const UPGRADED: Golden = { status: 101, body: FRAMES, upgrade: true }
const TAR = Buffer.alloc(2048, 'passwd')

const SPEC = leastContainer({ name: 'golden', imageId: IMAGE, labels: LABELS })

export const CALLS: readonly EngineCall[] = [
  {
    name: 'connect',
    replies: [json(200, 'version'), json(200, 'info')],
    async make(engine) {
      return engine.connect()
    },
    lie: (value, told) => {
      const { apiVersion, version, cores, memoryBytes, capabilities } = value as EngineInfo
      const [newest, info] = told.map((reply) => reply.values?.[0] as Record<string, unknown>)
      return (
        refused(told) ??
        (/^1\.\d{2}$/.test(String(newest?.['ApiVersion'])) ? undefined : 'a version out of garbage') ??
        (apiVersion === '1.41' || Number(apiVersion.split('.')[1]) > 41 ? undefined : `version ${apiVersion}`) ??
        (version === newest?.['Version'] ? undefined : 'another version than it told') ??
        (isCount(cores) && cores > 0 && cores === info?.['NCPU'] ? undefined : `${cores} cores`) ??
        (isCount(memoryBytes) && memoryBytes > 0 ? undefined : `${memoryBytes} bytes of memory`) ??
        (typeof capabilities.gpu === 'boolean' ? undefined : 'no word on GPUs')
      )
    },
  },
  {
    name: 'ping',
    replies: [{ status: 200, body: { kind: 'bytes', bytes: Buffer.from('OK') } }],
    make: (engine) => engine.ping(),
    lie: (_, told) => refused(told),
  },
  {
    name: 'events',
    replies: [lines(200, recorded['events'] as unknown[])],
    make: async (engine, signal) => {
      const events: object[] = []
      for await (const event of await engine.events(LABELS, signal)) events.push(event)
      return events
    },
    lie: (value, told, aborted) => {
      const events = value as Record<string, unknown>[]
      const odd = events.find(
        ({ containerId, action, at }) => !isString(containerId) || !isString(action) || !isDate(at),
      )
      if (odd !== undefined) return `an event that is none: ${JSON.stringify(odd)}`
      if (aborted) return undefined
      return refused(told) ?? (events.length === (told[0]?.values?.length ?? 0) ? undefined : 'events are missing')
    },
  },

  {
    name: 'containers.create',
    replies: [json(201, 'created')],
    make: (engine) => engine.containers.create(SPEC),
    lie: (value, told) => refused(told) ?? theId(value, told),
  },
  command('containers.start', (engine) => engine.containers.start(CONTAINER), [304]),
  command('containers.stop', (engine) => engine.containers.stop(CONTAINER, 1), [304, 404]),
  {
    ...command('containers.kill', (engine) => engine.containers.kill(CONTAINER)),
    lie: (value, told) => {
      const status = told[0]?.status
      const ends = status === 404 || status === 409 || /not running/.test(text(told[0]))
      return value === false && ends ? gone(told, [status ?? 0]) : (refused(told) ?? is(value, true))
    },
  },
  {
    ...command('containers.remove', (engine) => engine.containers.remove(CONTAINER)),
    // Another removal that is under way reaches the goal, which the next question confirms.
    lie: (value, told) =>
      told[0]?.status === 404
        ? (is(value, false) ?? gone(told, [404]))
        : told[0]?.status === 409 && /in progress/.test(text(told[0]))
          ? is(value, true)
          : (refused(told) ?? is(value, true)),
  },
  {
    name: 'containers.wait',
    replies: [lines(200, [recorded['wait']])],
    make: (engine, signal) => engine.containers.wait(CONTAINER, signal),
    // It has its answer with the first line, whatever becomes of the connection.
    lie: (_, [told]) =>
      isSuccess(told) && /"StatusCode": ?-?\d/.test(text(told)) && isInteger(firstLine(told)?.['StatusCode'])
        ? undefined
        : 'no StatusCode',
  },
  inspection('inspectRunning'),
  inspection('inspectExited'),
  {
    name: 'containers.list',
    replies: [json(200, 'list')],
    make: (engine) => engine.containers.list(LABELS),
    lie: (value, told) =>
      refused(told) ??
      listed(value, told, ({ id, name, status, createdAt, labels, imageId }) =>
        isFullId(id) && isString(name) && isString(imageId) && isText(status) && isDate(createdAt) && hasTexts(labels)
          ? undefined
          : 'a container that is none',
      ),
  },
  {
    name: 'containers.attach',
    replies: [UPGRADED],
    make: async (engine, signal) => read(await engine.containers.attach(CONTAINER, { stdin: true, signal })),
    lie: theOutput,
  },
  {
    name: 'containers.logs',
    replies: [{ status: 200, body: FRAMES }],
    make: (engine, signal) => outputOf(engine.containers.logs(CONTAINER, { follow: false, signal })),
    lie: theOutput,
  },
  {
    name: 'containers.stats',
    replies: [lines(200, recorded['stats'] as unknown[])],
    make: async (engine, signal) => {
      const samples: object[] = []
      for await (const sample of engine.containers.stats(CONTAINER, signal)) samples.push(sample)
      return samples
    },
    lie: (value, told, aborted) => {
      const samples = value as Record<string, unknown>[]
      const odd = samples.find(({ at, ...rest }) => !isDate(at) || !Object.values(rest).every(isNullOrUse))
      if (odd !== undefined) return `a sample that is none: ${JSON.stringify(odd)}`
      // The empty message of a container that does not run ends it, whatever follows.
      if (aborted || told[0]?.values?.some(isEmptySample)) return undefined
      return refused(told) ?? (samples.length === (told[0]?.values?.length ?? 0) ? undefined : 'samples are missing')
    },
  },
  {
    name: 'containers.sample',
    replies: [{ status: 200, body: { kind: 'json', value: (recorded['stats'] as unknown[])[0] } }],
    make: (engine) => engine.containers.sample(CONTAINER),
    lie: (value, told) => {
      if (value === undefined) {
        return told[0]?.status === 404 || told[0]?.values?.some(isEmptySample) ? undefined : 'gone out of nothing'
      }
      const { at, ...rest } = value as Record<string, unknown>
      if (!isDate(at) || !Object.values(rest).every(isNullOrUse))
        return `a sample that is none: ${JSON.stringify(value)}`
      return refused(told)
    },
  },
  {
    name: 'containers.statPath',
    replies: [{ status: 200, body: { kind: 'none' }, head: true, stat: recorded['pathStat'] }],
    make: (engine) => engine.containers.statPath(CONTAINER, '/etc/passwd'),
    lie: (value, told) => {
      if (value === undefined) return told[0]?.status === 404 ? undefined : 'gone out of nothing'
      const { name, bytes, modifiedAt, linkTarget, isDirectory } = value as Record<string, unknown>
      const stat = told[0]?.stat as Record<string, unknown> | undefined
      return (
        (isSuccess(told[0]) ? undefined : `status ${told[0]?.status}`) ??
        (name === stat?.['name'] && bytes === stat?.['size'] ? undefined : 'another file than it told') ??
        (isCount(bytes) && isDate(modifiedAt) && isString(linkTarget) ? undefined : 'a file that is none') ??
        (isCount(stat?.['mode']) && typeof isDirectory === 'boolean' ? undefined : 'a mode that is none')
      )
    },
  },
  {
    name: 'containers.readArchive',
    replies: [{ status: 200, body: { kind: 'bytes', bytes: TAR }, stat: recorded['pathStat'] }],
    make: async (engine, signal) =>
      buffer(await engine.containers.readArchive(CONTAINER, '/etc/passwd', signal)).catch((error: unknown) => {
        // What breaks off behind the first byte is the stream's own error: its reader sees it.
        throw Object.assign(new Error('the archive broke off', { cause: error }), { name: 'ArchiveBroke' })
      }),
    lie: (value, told) =>
      refused(told) ?? (told[0]?.bytes?.equals(value as Buffer) ? undefined : 'another archive than it sent'),
  },
  {
    name: 'containers.writeArchive',
    replies: [{ status: 200, body: { kind: 'bytes', bytes: Buffer.from('ok') } }],
    make: (engine, signal) =>
      engine.containers.writeArchive(CONTAINER, '/', Readable.from([Buffer.alloc(1024)]), signal),
    // The engine has unpacked when its status comes; no body is asked for.
    lie: (_, told) => (isSuccess(told[0]) ? undefined : `status ${told[0]?.status}`),
  },
  {
    name: 'containers.exec',
    replies: [json(201, 'execCreated'), UPGRADED, json(200, 'execInspect')],
    make: async (engine, signal) => {
      const exec = await engine.containers.exec(CONTAINER, { command: ['true'], stdin: true, signal })
      return { output: await read(exec), ...(await exec.inspect()) }
    },
    lie: (value, told, aborted) => {
      const { output, running, exitCode } = value as Record<string, unknown>
      const [created, attached, inspected] = told
      const details = inspected?.values?.[0] as Record<string, unknown> | undefined
      const code = details?.['ExitCode'] ?? null
      return (
        refused([created, inspected]) ??
        (isFullId((created?.values?.[0] as Record<string, unknown>)?.['Id']) ? undefined : 'an exec without an id') ??
        theOutput(output, [attached], aborted) ??
        (running === details?.['Running'] && typeof running === 'boolean' ? undefined : 'running out of garbage') ??
        (exitCode === code && (code === null || isInteger(code)) ? undefined : `exit code ${exitCode}`)
      )
    },
  },
  {
    ...command('containers.pause', (engine) => engine.containers.pause(CONTAINER)),
    lie: (_, told) => (/already paused/.test(text(told[0])) ? undefined : refused(told)),
  },
  {
    ...command('containers.resume', (engine) => engine.containers.resume(CONTAINER)),
    lie: (_, told) => (/is not paused/.test(text(told[0])) ? undefined : refused(told)),
  },
  {
    name: 'containers.commit',
    replies: [json(201, 'committed')],
    make: (engine) =>
      engine.containers.commit(CONTAINER, {
        reference: 'golden:1',
        labels: LABELS,
        entrypoint: [],
        command: [],
        user: '',
        workingDir: '/',
        blankVariables: [],
      }),
    lie: (value, told) => refused(told) ?? theImage(value, (told[0]?.values?.[0] as Record<string, unknown>)?.['Id']),
  },

  {
    name: 'networks.create',
    replies: [json(201, 'networkCreated')],
    make: (engine) =>
      engine.networks.create({ name: 'golden', subnet: '10.199.255.0/27', internal: true, labels: LABELS }),
    lie: (value, told) => refused(told) ?? theId(value, told),
  },
  {
    name: 'networks.inspect',
    replies: [json(200, 'network')],
    make: (engine) => engine.networks.inspect(NETWORK),
    lie: (value, told) => {
      if (value === undefined) return gone(told, [404])
      const network = value as NetworkState
      return refused(told) ?? (network.id === NETWORK ? undefined : 'another network') ?? aNetwork(network)
    },
  },
  {
    name: 'networks.list',
    replies: [json(200, 'networks')],
    make: (engine) => engine.networks.list(LABELS),
    lie: (value, told) => refused(told) ?? listed(value, told, (item) => aNetwork(item as unknown as NetworkState)),
  },
  removal('networks.remove', NO_CONTENT, (engine) => engine.networks.remove(NETWORK)),
  {
    ...command('networks.connect', (engine) => engine.networks.connect(NETWORK, CONTAINER, ['egress-online'])),
    replies: [{ status: 200, body: { kind: 'none' } }],
  },
  {
    ...command('networks.disconnect', (engine) => engine.networks.disconnect(NETWORK, CONTAINER)),
    replies: [{ status: 200, body: { kind: 'none' } }],
    lie: (_, told) =>
      told[0]?.status === 404 ? gone(told, [404]) : /is not connected/.test(text(told[0])) ? undefined : refused(told),
  },

  {
    name: 'images.inspect',
    replies: [json(200, 'image')],
    make: (engine) => engine.images.inspect(IMAGE),
    lie: (value, told) => {
      if (value === undefined) return gone(told, [404])
      const { id, createdAt, labels, user, workingDir, environment, entrypoint, command } = value as Record<
        string,
        unknown
      >
      return (
        refused(told) ??
        theImage(id, IMAGE) ??
        (isDate(createdAt) && hasTexts(labels) ? undefined : 'an image without a time or labels') ??
        (isString(user) && isText(workingDir) && [environment, entrypoint, command].every(areStrings)
          ? undefined
          : 'an image that is none')
      )
    },
  },
  {
    name: 'images.pull',
    replies: [lines(200, recorded['pull'] as unknown[])],
    make: (engine, signal) => engine.images.pull('golden:1', { onProgress: () => {}, signal }),
    lie: (_, told) => refused(told) ?? failedLine(told[0]),
  },
  {
    name: 'images.build',
    replies: [lines(200, recorded['build'] as unknown[])],
    make: (engine, signal) =>
      engine.images.build({
        context: Readable.from([Buffer.alloc(1024)]),
        tag: 'golden:1',
        labels: LABELS,
        bounds: { memoryBytes: 64 * 1024 ** 2, cpus: 1, network: 'none' },
        onOutput: () => {},
        signal,
      }),
    lie: (value, told) => {
      const ids = (told[0]?.values ?? []).flatMap((line) => (line as { aux?: { ID?: unknown } } | null)?.aux?.ID ?? [])
      return refused(told) ?? failedLine(told[0]) ?? theImage(value, ids.at(-1))
    },
  },
  {
    name: 'images.list',
    replies: [json(200, 'images')],
    make: (engine) => engine.images.list(LABELS),
    lie: (value, told) => {
      const ids = told[0]?.values?.[0] as { Id: unknown }[] | undefined
      const answered = value as unknown[]
      return (
        refused(told) ??
        (Array.isArray(ids) && ids.length === answered.length ? undefined : 'a list of another length') ??
        answered.map((id, at) => theImage(id, ids?.[at]?.Id)).find((lie) => lie !== undefined)
      )
    },
  },
  removal('images.remove', json(200, 'imageRemoved'), (engine) => engine.images.remove(IMAGE)),

  {
    name: 'volumes.create',
    replies: [json(201, 'volume')],
    make: (engine) => engine.volumes.create('golden', LABELS),
    lie: (_, told) =>
      refused(told) ??
      ((told[0]?.values?.[0] as Record<string, unknown> | null)?.['Name'] === 'golden' ? undefined : 'another volume'),
  },
  {
    name: 'volumes.inspect',
    replies: [json(200, 'volume')],
    make: (engine) => engine.volumes.inspect('golden'),
    lie: (value, told) => {
      if (value === undefined) return gone(told, [404])
      return refused(told) ?? (nameOf(value) === 'golden' ? undefined : 'another volume') ?? aVolume(value)
    },
  },
  {
    name: 'volumes.list',
    replies: [json(200, 'volumes')],
    make: (engine) => engine.volumes.list(LABELS),
    lie: (value, told) => {
      const [answer] = (told[0]?.values ?? []) as ({ Volumes?: unknown } | null)[]
      const isList = answer?.Volumes === null || Array.isArray(answer?.Volumes)
      return (
        refused(told) ??
        (isList ? undefined : 'a list out of garbage') ??
        (value as unknown[]).map(aVolume).find((lie) => lie !== undefined)
      )
    },
  },
  removal('volumes.remove', NO_CONTENT, (engine) => engine.volumes.remove('golden')),
]

/** A call whose success has no content. */
function command(
  name: string,
  make: (engine: DockerEngine) => Promise<unknown>,
  harmless: readonly number[] = [],
): EngineCall {
  return {
    name,
    replies: [NO_CONTENT],
    make,
    lie: (_, told) => (harmless.includes(told[0]?.status ?? 0) ? gone(told, harmless) : refused(told)),
  }
}

function removal(name: string, reply: Golden, make: (engine: DockerEngine) => Promise<boolean>): EngineCall {
  return {
    name,
    replies: [reply],
    make,
    lie: (value, told) => (value === false ? gone(told, [404]) : (refusedStatus(told) ?? is(value, true))),
  }
}

function inspection(key: 'inspectRunning' | 'inspectExited'): EngineCall {
  return {
    name: `containers.inspect (${key === 'inspectExited' ? 'exited' : 'running'})`,
    replies: [json(200, key)],
    make: (engine) => engine.containers.inspect(CONTAINER),
    lie: (value, told) => {
      if (value === undefined) return gone(told, [404])
      const state = value as ContainerState
      const details = told[0]?.values?.[0] as { State: Record<string, unknown> } | undefined
      return (
        refused(told) ??
        (state.id === CONTAINER ? undefined : 'another container') ??
        (state.status === details?.State['Status'] ? undefined : `${state.status} out of garbage`) ??
        (isInteger(state.exitCode) && state.exitCode === details?.State['ExitCode'] ? undefined : 'an exit code') ??
        aContainer(state)
      )
    },
  }
}

// --- What may be concluded ----------------------------------------------------------------------

function isSuccess(told: Delivered | undefined): boolean {
  return told?.status !== undefined && told.status >= 200 && told.status < 300
}

/** Why these replies are no success at all. */
function refused(told: readonly (Delivered | undefined)[]): string | undefined {
  return refusedStatus(told) ?? (told.every((reply) => reply?.whole) ? undefined : 'a reply that is not whole')
}

function refusedStatus(told: readonly (Delivered | undefined)[]): string | undefined {
  const bad = told.find((reply) => !isSuccess(reply))
  return bad === undefined ? undefined : `status ${bad.status}`
}

/** "It is gone" has to be the engine's own word, which is JSON with a message. */
function gone([told]: readonly (Delivered | undefined)[], statuses: readonly number[]): string | undefined {
  if (told?.status === undefined || !statuses.includes(told.status)) return `gone by status ${told?.status}`
  if (told.status !== 404) return undefined
  return /\{"message":"/.test(text(told)) ? undefined : 'gone by a 404 that is not the engine’s'
}

function text(told: Delivered | undefined): string {
  return told?.body.toString('utf8') ?? ''
}

function firstLine(told: Delivered | undefined): Record<string, unknown> | undefined {
  const line = /\{.*"StatusCode".*\}/.exec(text(told))?.[0]
  try {
    return line === undefined ? undefined : (JSON.parse(line) as Record<string, unknown>)
  } catch {
    return undefined
  }
}

function is(value: unknown, wanted: unknown): string | undefined {
  return value === wanted ? undefined : `${String(value)} for ${String(wanted)}`
}

function theId(value: unknown, [told]: readonly Delivered[]): string | undefined {
  const id = (told?.values?.[0] as Record<string, unknown> | null | undefined)?.['Id']
  return isFullId(value) && value === id ? undefined : `id ${String(value).slice(0, 80)}`
}

function theImage(value: unknown, told: unknown): string | undefined {
  const isId = isString(value) && /^sha256:[0-9a-f]{64}$/.test(value)
  return isId && value.endsWith(String(told)) ? undefined : `image ${String(value).slice(0, 80)}`
}

function theOutput(value: unknown, told: readonly (Delivered | undefined)[], aborted: boolean): string | undefined {
  if (aborted) return undefined
  if (!told[0]?.whole) return 'output that is not whole'
  const isFine = isSuccess(told[0]) || told[0].status === 101
  return isFine ? is(value, told[0].body.length === 0 ? '|' : OUTPUT) : `status ${told[0].status}`
}

function listed(
  value: unknown,
  [told]: readonly Delivered[],
  lie: (item: Record<string, unknown>) => string | undefined,
): string | undefined {
  const items = value as Record<string, unknown>[]
  const answer = told?.values?.[0]
  if (!Array.isArray(answer) || items.length > answer.length) return 'a list out of garbage'
  return items.map(lie).find((found) => found !== undefined)
}

/** A stream of lines that tells its own failure, or tells nothing. */
function failedLine(told: Delivered | undefined): string | undefined {
  if (told?.values === undefined) return 'a stream that is not JSON'
  if (told.values.length === 0) return 'a stream without a word'
  const failed = told.values.some((line) => typeof line === 'object' && line !== null && /"error/.test(keysOf(line)))
  return failed ? 'a stream that tells an error' : undefined
}

function keysOf(line: object): string {
  return JSON.stringify(Object.keys(line).filter((key) => key === 'error' || key === 'errorDetail'))
}

function aContainer(state: ContainerState): string | undefined {
  const { createdAt, startedAt, finishedAt, networks, ports, mounts, health } = state
  if (!isDate(createdAt)) return 'createdAt'
  if (startedAt !== undefined && !isDate(startedAt)) return 'startedAt'
  if (finishedAt !== undefined && !isDate(finishedAt)) return 'finishedAt'
  if (![state.name, state.imageId, state.error].every(isString)) return 'a name'
  if (typeof state.oomKilled !== 'boolean' || !hasTexts(state.labels)) return 'labels'
  if (!networks.every(({ networkId, address, gateway }) => [networkId, address, gateway].every(isString)))
    return 'networks'
  if (!ports.every(({ containerPort, hostPort }) => isPort(containerPort) && isPort(hostPort))) return 'ports'
  if (!mounts.every(({ source, target }) => isString(source) && isString(target))) return 'mounts'
  if (health === undefined) return undefined
  const checks = health.checks.every(
    ({ at, exitCode, output }) => isDate(at) && isInteger(exitCode) && isString(output),
  )
  return checks && isInteger(health.failingStreak) ? undefined : 'health'
}

function aNetwork({ id, name, createdAt, labels, internal, subnets }: NetworkState): string | undefined {
  const isOne = isFullId(id) && isText(name) && isDate(createdAt) && hasTexts(labels) && areStrings(subnets)
  return isOne && typeof internal === 'boolean' ? undefined : 'a network that is none'
}

function aVolume(value: unknown): string | undefined {
  const { name, labels, createdAt } = value as Record<string, unknown>
  return isText(name) && hasTexts(labels) && isDate(createdAt) ? undefined : 'a volume that is none'
}

function isEmptySample(message: unknown): boolean {
  const { cpu_stats, memory_stats } = (message ?? {}) as {
    cpu_stats?: { cpu_usage?: { total_usage?: unknown } | null } | null
    memory_stats?: { usage?: unknown } | null
  }
  return cpu_stats?.cpu_usage?.total_usage === undefined || memory_stats?.usage === undefined
}

async function read(attachment: Attachment): Promise<string> {
  try {
    return await outputOf(attachment.output)
  } finally {
    attachment.close()
  }
}

async function outputOf(chunks: AsyncIterable<OutputChunk>): Promise<string> {
  const held: Record<OutputChunk['stream'], Buffer[]> = { stdout: [], stderr: [] }
  for await (const { stream, bytes } of chunks) held[stream].push(Buffer.from(bytes))
  return `${Buffer.concat(held.stdout)}|${Buffer.concat(held.stderr)}`
}

function nameOf(value: unknown): unknown {
  return (value as { name?: unknown }).name
}

function isFullId(value: unknown): boolean {
  return isString(value) && /^[0-9a-f]{64}$/.test(value)
}

function isDate(value: unknown): boolean {
  return value instanceof Date && !Number.isNaN(value.getTime())
}

function isString(value: unknown): value is string {
  return typeof value === 'string'
}

function isText(value: unknown): boolean {
  return isString(value) && value !== ''
}

function areStrings(value: unknown): boolean {
  return Array.isArray(value) && value.every(isString)
}

function hasTexts(labels: unknown): boolean {
  return typeof labels === 'object' && labels !== null && Object.values(labels).every(isString)
}

function isInteger(value: unknown): boolean {
  return Number.isSafeInteger(value)
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function isPort(value: unknown): boolean {
  return isCount(value) && value <= 65_535
}

function isNullOrUse(value: unknown): boolean {
  return value === null || (Number.isFinite(value) && (value as number) >= 0)
}
