/**
 * A load of runs, relics, workers, commands and cleanups on a service that dies, and the look at the
 * world afterwards: each run that was accepted has one end, its output whole and once, and ran once;
 * nothing is on the engine that no record claims.
 */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Engine } from '../../src/engine/engine.ts'
import { ownedBy } from '../../src/labels.ts'
import { HTTPD, TOOLBOX } from '../fixtures/images.ts'
import type { Random } from '../support/random.ts'

const LINES = 12
const SETTLE_MS = 180_000
const CALL_MS = 60_000

interface Run {
  execution_id: string
  status: string
  stdout: string
  failure: { code: string; message: string } | null
}

export interface LoadOptions {
  url: string
  dataDir: string
  engine: Engine
  random: Random
}

export interface Verdict {
  runs: number
  /** One sentence for each promise that was broken. */
  problems: string[]
}

type Disturbance = (session: string) => Promise<unknown>

export class MixedLoad {
  readonly #options: LoadOptions
  readonly #session = `faults-${randomUUID().slice(0, 8)}`
  /** Execution ids by the key of the call that asked for them. */
  readonly #accepted = new Map<string, string>()
  /** What a call that broke off had asked for is asked for again, with its key. */
  readonly #pending = new Map<string, object>()
  readonly #problems: string[] = []

  constructor(options: LoadOptions) {
    this.#options = options
  }

  /** Sends calls until the signal aborts; those that fail since the service dies are repeated later. */
  async run(
    signal: AbortSignal,
    disturbances: readonly Disturbance[] = Object.values(this.disturbances),
  ): Promise<void> {
    await Promise.all([this.#submit(signal), this.#submit(signal), this.#disturb(disturbances, signal)])
  }

  /** Things that come and go beside the runs, by what they are. */
  readonly disturbances = {
    relic: (session: string) =>
      this.#post('/containers/relic/start', { relic_name: 'web', session_id: session, image: HTTPD }),
    brokenRelic: (session: string) =>
      this.#post('/containers/relic/start', {
        relic_name: 'broken',
        session_id: session,
        image: TOOLBOX,
        command: ['false'],
      }),
    worker: (session: string) =>
      this.#post(`/containers/worker/${session}/ensure`, {
        image: TOOLBOX,
        session_id: session,
        volumes: [{ source: 'kept', target: '/kept', read_only: false }],
      }),
    exec: (session: string) => this.#post(`/containers/worker/${session}/exec`, { command: 'sleep 5', wait: false }),
    shortExec: (session: string) => this.#post(`/containers/worker/${session}/exec`, { command: 'true' }),
    refresh: (session: string) => this.#post(`/containers/worker/${session}/refresh`, { timeout_seconds: 0 }),
    cleanup: (session: string) => this.#post('/containers/cleanup/session', { session_id: session, force: true }),
  } satisfies Record<string, Disturbance>

  /** Waits for every end, cleans up, and looks at the world. The service has to be up. */
  async verdict(): Promise<Verdict> {
    for (const [key, body] of [...this.#pending])
      if (!(await this.#accept(key, body))) this.#problem(`${key}: not accepted`)
    const runs = await this.#settled()
    const ledger = await this.#ledger()
    const wanted = Array.from({ length: LINES }, (_, line) => `line ${line}\n`).join('')
    for (const run of runs) {
      const times = ledger.filter((id) => id === run.execution_id).length
      if (run.status !== 'completed') this.#problem(`${run.execution_id}: ${run.status} ${JSON.stringify(run.failure)}`)
      else if (run.stdout !== wanted) this.#problem(`${run.execution_id}: output ${JSON.stringify(run.stdout)}`)
      if (times !== 1) this.#problem(`${run.execution_id}: ran ${times} times`)
    }
    await this.#cleanUp()
    for (const left of await this.#leftOnEngine()) this.#problem(`${left} is left`)
    return { runs: runs.length, problems: this.#problems }
  }

  async #submit(signal: AbortSignal): Promise<void> {
    const { random } = this.#options
    while (!signal.aborted) {
      const [key, body] = this.#pending.entries().next().value ?? [randomUUID(), this.#runRequest()]
      this.#pending.set(key, body)
      await this.#accept(key, body).catch(() => false)
      await sleep(random.between(150, 400), undefined, { signal }).catch(() => {})
    }
  }

  #runRequest(): object {
    const pause = this.#options.random.between(0, 6) / 100
    const script = `echo $EXECUTION_ID >> /ledger/runs; i=0; while [ $i -lt ${LINES} ]; do echo line $i; i=$((i+1)); sleep ${pause}; done`
    return {
      tool_name: 'faults',
      session_id: this.#session,
      image: TOOLBOX,
      command: ['sh', '-c', script],
      volumes: [{ source: 'ledger', target: '/ledger', read_only: false }],
      wait: false,
    }
  }

  async #accept(key: string, body: object): Promise<boolean> {
    const answer = await this.#post('/containers/tool/execute', body, { 'idempotency-key': key })
    if (answer.status !== 202 && answer.status !== 200) return false
    const { execution_id } = (await answer.json()) as Run
    const before = this.#accepted.get(key)
    if (before !== undefined && before !== execution_id) this.#problem(`${key}: was ${before}, and is ${execution_id}`)
    this.#accepted.set(key, execution_id)
    this.#pending.delete(key)
    return true
  }

  async #disturb(disturbances: readonly Disturbance[], signal: AbortSignal): Promise<void> {
    const { random } = this.#options
    while (!signal.aborted) {
      const disturbance = disturbances[random.between(0, disturbances.length - 1)]
      await disturbance?.(`${this.#session}-${random.between(0, 2)}`).catch(() => {})
      await sleep(random.between(10, 100), undefined, { signal }).catch(() => {})
    }
  }

  /** All runs that were accepted, once each, when they have ended. */
  async #settled(): Promise<Run[]> {
    const runs: Run[] = []
    const until = Date.now() + SETTLE_MS
    for (const id of new Set(this.#accepted.values())) {
      for (;;) {
        const run = (await (await this.#get(`/containers/tool/${id}`)).json()) as Run
        if (!['queued', 'preparing', 'running'].includes(run.status) || Date.now() > until) {
          runs.push(run)
          break
        }
        await sleep(50)
      }
    }
    return runs
  }

  /** Ids of the runs in the order in which their processes began. */
  async #ledger(): Promise<string[]> {
    if (this.#accepted.size === 0) return []
    const answer = await this.#post('/containers/tool/execute', {
      tool_name: 'ledger',
      session_id: this.#session,
      image: TOOLBOX,
      command: ['sh', '-c', 'cp /ledger/runs /output/runs'],
      volumes: [{ source: 'ledger', target: '/ledger' }],
    })
    const { execution_id } = (await answer.json()) as Run
    const file = await this.#get(`/containers/tool/${execution_id}/artifacts/runs`)
    return (await file.text()).split('\n').filter((line) => line !== '')
  }

  async #cleanUp(): Promise<void> {
    for (const session of [this.#session, ...[0, 1, 2].map((part) => `${this.#session}-${part}`)]) {
      const answer = await this.#post('/containers/cleanup/session', { session_id: session, force: true })
      const { errors } = (await answer.json()) as { errors: unknown[] }
      if (errors.length > 0) this.#problem(`cleanup of ${session}: ${JSON.stringify(errors)}`)
    }
  }

  /** What the instance still has on the engine, but for its toolbox and the bridge of its workers. */
  async #leftOnEngine(): Promise<string[]> {
    const { engine, dataDir } = this.#options
    const owned = ownedBy(instanceOf(dataDir) ?? '')
    const [containers, networks, volumes] = await Promise.all([
      engine.containers.list(owned),
      engine.networks.list(owned),
      engine.volumes.list(owned),
    ])
    return [
      ...containers.map(({ name }) => `container ${name}`),
      ...networks.map(({ name }) => `network ${name}`).filter((name) => !name.startsWith('network internal_')),
      ...volumes.map(({ name }) => `volume ${name}`).filter((name) => !name.startsWith('volume toolbox_')),
    ]
  }

  #problem(problem: string): void {
    this.#problems.push(problem)
  }

  #get(path: string): Promise<Response> {
    return fetch(this.#options.url + path, { signal: AbortSignal.timeout(CALL_MS) })
  }

  #post(path: string, body: object, headers: Record<string, string> = {}): Promise<Response> {
    return fetch(this.#options.url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(CALL_MS),
    })
  }
}

/** Id of the installation in a data folder; undefined where there is none yet. */
export function instanceOf(dataDir: string): string | undefined {
  const database = new DatabaseSync(join(dataDir, 'store.sqlite'), { readOnly: true })
  const row = database.prepare('select id from instance').get() as { id: string } | undefined
  database.close()
  return row?.id
}
