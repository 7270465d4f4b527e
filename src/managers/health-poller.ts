import { request as httpRequest } from 'node:http'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { timestamp } from '../domain/common.ts'
import type { Probe } from '../domain/relic.ts'
import { messageOf } from '../errors.ts'
import type { Door, DoorTarget } from './door.ts'

const PROBE_TIMEOUT_MS = 2_000
const FIRST_PAUSE_MS = 5
const LONGEST_PAUSE_MS = 1_000
const PAUSE_GROWTH = 1.5

/** Asks a relic over HTTP whether it is ready. Only a verdict leaves: no body, no redirect, no name lookup. */
export class HealthPoller {
  readonly #door: Door

  constructor(door: Door) {
    this.#door = door
  }

  /** One question: a 2xx within two seconds is healthy. Never rejects. */
  probe(target: DoorTarget, path: string, signal?: AbortSignal): Promise<Probe> {
    return this.#ask(target, path, signal, false)
  }

  async #ask(target: DoorTarget, path: string, signal: AbortSignal | undefined, patience: boolean): Promise<Probe> {
    const at = timestamp()
    const began = performance.now()
    const deadline = AbortSignal.any([AbortSignal.timeout(PROBE_TIMEOUT_MS), ...(signal ? [signal] : [])])
    let status: number | null = null
    let error: string | null = null
    let connection: Duplex | undefined
    try {
      connection = await this.#door.dial(target, deadline, { patience })
      status = await statusOf(connection, target, path, deadline)
      if (status >= 300 && status < 400) error = 'it answered a redirect, and none is followed'
      else if (status >= 400 || status < 200) error = `it answered ${status}`
    } catch (failure) {
      error = deadline.aborted ? 'it did not answer within 2 seconds' : messageOf(failure)
    } finally {
      connection?.destroy()
    }
    return {
      at,
      healthy: error === null,
      status_code: status,
      error,
      duration_ms: Math.round(performance.now() - began),
    }
  }

  /**
   * Asks until the answer is healthy or the signal aborts: at once, then after pauses that grow from
   * 5 ms to 1 s. Every probe is told to `onProbe`.
   */
  async untilHealthy(
    target: DoorTarget,
    path: string,
    signal: AbortSignal,
    onProbe: (probe: Probe) => void,
  ): Promise<void> {
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * PAUSE_GROWTH, LONGEST_PAUSE_MS)) {
      const probe = await this.#ask(target, path, signal, true)
      signal.throwIfAborted()
      onProbe(probe)
      if (probe.healthy) return
      await sleep(pause, undefined, { signal })
    }
  }
}

function statusOf(connection: Duplex, target: DoorTarget, path: string, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    // A connection that ends without an answer is told by the request; this listener keeps it from being thrown.
    connection.on('error', reject)
    const request = httpRequest({
      createConnection: () => connection,
      host: target.address,
      port: target.port,
      path,
      headers: { connection: 'close', accept: '*/*', 'user-agent': 'container-orchestrator' },
      signal,
    })
    request.on('error', reject)
    request.on('response', (response) => {
      response.on('error', () => {})
      resolve(response.statusCode ?? 0)
      response.destroy()
    })
    request.end()
  })
}
