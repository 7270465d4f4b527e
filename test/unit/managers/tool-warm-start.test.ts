import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { EngineError } from '../../../src/errors.ts'
import type { DockerManager } from '../../../src/managers/docker-manager.ts'
import type { ResolvedImage } from '../../../src/managers/image-manager.ts'
import { containerName } from '../../../src/managers/names.ts'
import type { Outcome } from '../../../src/managers/outcome.ts'
import { ToolAttempt } from '../../../src/managers/tool-attempt.ts'
import { queuedRun } from '../../../src/managers/tool-manager.ts'
import type { ToolProcess } from '../../../src/managers/tool-process.ts'
import type { ToolEntry, ToolRecord } from '../../../src/managers/tool-record.ts'
import { WarmStart, type WarmStartDeps } from '../../../src/managers/tool-warm-start.ts'
import { STRICT } from '../../../src/policy/profiles.ts'
import { toolRequest } from '../support/requests.ts'

const REQUEST = toolRequest({ command: ['true'] })
const IMAGE = { id: 'sha256:1', reference: 'python:3.13', user: '', workingDir: '/', environment: [], entrypoint: [] }
const COMPLETED: Outcome = { status: 'completed', exitCode: 0, failure: null }

let entry: ToolEntry
let nonce: string
let attempt: ToolAttempt
let warm: WarmStart
/** What the world would say and do. */
let image: typeof IMAGE | undefined
let waits: boolean
let tell: () => void
let follow: () => Promise<Outcome | undefined>
const handedOver = vi.fn()
const removed = vi.fn()
const ended = vi.fn()
const renamed = vi.fn()

beforeEach(() => {
  vi.clearAllMocks()
  image = IMAGE
  waits = true
  tell = () => {}
  follow = async () => COMPLETED
  nonce = randomUUID()
  entry = {
    id: 'exec_1',
    sessionId: 's1',
    owner: null,
    name: 'sum',
    status: 'queued',
    live: true,
    containerId: null,
    nonce,
    request: REQUEST,
    view: queuedRun('exec_1', REQUEST, null),
  }
  const docker = { handOver: handedOver, removeLater: removed } as unknown as DockerManager
  const parked = {
    id: 'pool_1',
    containerId: 'parked',
    volumes: ['v1'],
    attachment: {},
    handOver: () => tell(),
    close() {},
  }
  attempt = new ToolAttempt(docker, entry)
  const record = {
    entry,
    timed() {},
    insist: async (_change: unknown, _signal: unknown, containerId: string) => {
      entry.containerId = containerId
    },
  } as unknown as ToolRecord
  const process = { signal: new AbortController().signal, endReason: undefined, follow: () => follow() }
  const deps = {
    docker,
    engine: { containers: { rename: renamed } },
    images: { present: async () => image as ResolvedImage | undefined },
    pool: { isOn: true, take: () => (waits ? parked : undefined), ended },
    log: pino({ level: 'silent' }),
  } as unknown as WarmStartDeps
  warm = new WarmStart(
    deps,
    { request: REQUEST, record, attempt, toolProcess: process as unknown as ToolProcess },
    STRICT,
  )
})

/** Nothing of the run was begun: another attempt finds it as this one did. */
function expectGivenUp(): void {
  expect(removed).toHaveBeenCalledExactlyOnceWith('parked', ['v1'])
  expect(attempt).toMatchObject({ startAsked: false, volumes: [] })
  expect(entry).toMatchObject({ containerId: null, view: { warm: false, container_id: null, started_at: null } })
  expect(entry.nonce).not.toBe(nonce)
}

describe('a run that could have a parked container', () => {
  it('becomes what one is told that waits', async () => {
    expect(await warm.run()).toBe(COMPLETED)
    expect(handedOver).toHaveBeenCalledWith('parked', 'pool_1', expect.objectContaining({ id: 'exec_1', nonce }))
    expect(entry).toMatchObject({ containerId: 'parked', nonce, view: { warm: true } })
    expect(attempt).toMatchObject({ startAsked: true, volumes: ['v1'] })
    expect(removed).not.toHaveBeenCalled()
  })

  it('has the name of the run where its tool outlasts 50 ms', async () => {
    vi.useFakeTimers()
    follow = async () => {
      vi.advanceTimersByTime(49)
      expect(renamed).not.toHaveBeenCalled()
      vi.advanceTimersByTime(1)
      return COMPLETED
    }
    await warm.run()
    expect(renamed).toHaveBeenCalledExactlyOnceWith('parked', containerName('tool', 'sum', 's1', 'exec_1'))
    vi.useRealTimers()
  })

  it('keeps the name that it waited under where its tool has ended before', async () => {
    vi.useFakeTimers()
    await warm.run()
    vi.advanceTimersByTime(60_000)
    expect(renamed).not.toHaveBeenCalled()
    vi.useRealTimers()
  })

  it('needs one of its own where none waits; the pool is told of its end all the same', async () => {
    waits = false
    expect(await warm.run()).toBeUndefined()
    expect(entry).toMatchObject({ containerId: null, nonce, view: { warm: false } })
    warm.over()
    expect(ended).toHaveBeenCalledOnce()
  })

  it('asks the pool for nothing where its image is not on the engine', async () => {
    image = undefined
    expect(await warm.run()).toBeUndefined()
    warm.over()
    expect(ended).not.toHaveBeenCalled()
  })
})

describe('a container that does not take a run over', () => {
  it('leaves the run as it was before where it ended untold', async () => {
    tell = () => {
      throw new EngineError('failed', 'it ended')
    }
    expect(await warm.run()).toBeUndefined()
    expectGivenUp()
    expect(attempt.containerName).toContain('exec_1')
  })

  it('may have taken its name where it was told and did not become it', async () => {
    follow = async () => undefined
    const name = attempt.containerName
    expect(await warm.run()).toBeUndefined()
    expectGivenUp()
    expect(attempt.containerName).not.toBe(name)
  })

  it('is given up where the engine went away before it was told, which the run waits for', async () => {
    tell = () => {
      throw new EngineError('unavailable', 'away')
    }
    await expect(warm.run()).rejects.toThrow('away')
    expectGivenUp()
  })

  it('stays the run’s once it was told, whatever goes wrong', async () => {
    follow = async () => {
      throw new EngineError('failed', 'lost from sight')
    }
    await expect(warm.run()).rejects.toThrow('lost from sight')
    expect(removed).not.toHaveBeenCalled()
    expect(attempt.startAsked).toBe(true)
    expect(entry).toMatchObject({ containerId: 'parked', nonce })
  })
})
