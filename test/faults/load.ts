/** A mixed load on a service that dies, or whose engine does: runs, with relics and workers that come and go beside. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { HTTPD, TOOLBOX } from '../fixtures/images.ts'
import type { Random } from '../support/random.ts'
import type { Caller } from './caller.ts'
import { BEGUN } from './witness.ts'

const LINES = 12
/** What each run writes. */
export const WHOLE_OUTPUT = Array.from({ length: LINES }, (_, line) => `line ${line}\n`).join('')
const SUBMITTERS = 2
const SESSIONS = 3
/** Of the runs, where some can be served by parked containers. */
const PARKABLE = 0.6

/** What the store alone answers: no engine is asked. */
export const STORE_MS = 5_000
/** What waits for the engine: the longest deadline of a call that a request makes, which is a start. */
export const ENGINE_MS = 60_000

export interface Accepted {
  key: string
  execution_id: string
}

/** Milliseconds, from and to, between the calls of each who submits runs, and between the disturbances. */
export interface Pace {
  runs: readonly [number, number]
  disturbances: readonly [number, number]
}

/** Something that comes, goes or changes beside the runs, in a session that is not theirs. */
export type Disturbance = (session: string) => Promise<unknown>

export class Load {
  readonly caller: Caller
  /** Of the runs; what comes and goes has sessions of its own. */
  readonly session: string
  /** A run for each key; a key that was answered twice is there twice. */
  readonly accepted: Accepted[] = []
  readonly #random: Random
  readonly #pace: Pace
  /** Some of the runs are such as parked containers serve: they leave their beginning to a witness. */
  readonly #parks: boolean
  /** What a call that was not answered had asked for, to be asked for again with its key. */
  readonly #pending = new Map<string, object>()
  #over = new AbortController()
  #working: Promise<unknown> = Promise.resolve()

  constructor(caller: Caller, random: Random, pace: Pace, { parks = false }: { parks?: boolean } = {}) {
    this.#parks = parks
    this.caller = caller
    this.#random = random
    this.#pace = pace
    this.session = `faults-${randomUUID().slice(0, 8)}`
  }

  get sessions(): string[] {
    return [this.session, ...Array.from({ length: SESSIONS }, (_, number) => this.#beside(number))]
  }

  readonly disturbances = {
    relic: (session: string) => this.#post('/containers/relic/start', relic(session)),
    brokenRelic: (session: string) =>
      this.#post('/containers/relic/start', relic(session, { image: TOOLBOX, command: ['false'] })),
    worker: (session: string) =>
      this.#post(`/containers/worker/${session}/ensure`, {
        image: TOOLBOX,
        session_id: session,
        volumes: [{ source: 'kept', target: '/kept', read_only: false }],
      }),
    exec: (session: string) => this.#post(`/containers/worker/${session}/exec`, { command: 'sleep 2', wait: false }),
    shortExec: (session: string) => this.#post(`/containers/worker/${session}/exec`, { command: 'true' }),
    refresh: (session: string) => this.#post(`/containers/worker/${session}/refresh`, { timeout_seconds: 0 }),
    cleanup: (session: string) => this.#post('/containers/cleanup/session', { session_id: session, force: true }),
  } satisfies Record<string, Disturbance>

  /**
   * Sends calls until it is told to pause or end; those that are not answered are repeated. `pause` is, in
   * milliseconds, from and to, that between the calls of each who submits runs.
   */
  begin(
    disturbances: readonly Disturbance[] = Object.values(this.disturbances),
    pause: readonly [number, number] = this.#pace.runs,
  ): void {
    this.#over = new AbortController()
    const submitters = Array.from({ length: SUBMITTERS }, () => this.#submit(pause, this.#over.signal))
    this.#working = Promise.all([...submitters, this.#disturb(disturbances, this.#over.signal)])
  }

  /** Sends nothing more, and waits until what was sent is answered or broke off. */
  async pause(): Promise<void> {
    this.#over.abort()
    await this.#working
  }

  /** Stops, and asks again for what was not answered: from then on the service is in order. */
  async end(): Promise<void> {
    await this.pause()
    for (const [key, body] of this.#pending) {
      if (!(await this.accept(key, body))) throw new Error('a service that is in order takes no runs')
    }
  }

  /** Offers a run; true where it was accepted, now or before. */
  async accept(key: string, body: object): Promise<boolean> {
    const answer = await this.caller.post('/containers/tool/execute', body, {
      deadlineMs: STORE_MS,
      headers: { 'idempotency-key': key },
    })
    if (answer?.status !== 202 && answer?.status !== 200) return false
    this.accepted.push({ key, execution_id: String(answer.body['execution_id']) })
    return true
  }

  async #submit(pause: readonly [number, number], signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const [key, body] = this.#pending.entries().next().value ?? [randomUUID(), this.#run()]
      this.#pending.set(key, body)
      if (await this.accept(key, body)) this.#pending.delete(key)
      await this.#rest(pause, signal)
    }
  }

  /** Tells that it begins, to the ledger or to a witness, and writes its lines over up to a second. */
  #run(): object {
    const nap = this.#random.between(0, 8) / 100
    const isParkable = this.#parks && this.#random.next() < PARKABLE
    const begin = isParkable ? BEGUN : 'echo $EXECUTION_ID >> /ledger/runs'
    const script = `${begin}; i=0; while [ $i -lt ${LINES} ]; do echo line $i; i=$((i+1)); sleep ${nap}; done`
    return {
      tool_name: 'faults',
      session_id: this.session,
      image: TOOLBOX,
      command: ['sh', '-c', script],
      ...(isParkable ? {} : { volumes: [{ source: 'ledger', target: '/ledger', read_only: false }] }),
      wait: false,
    }
  }

  async #disturb(disturbances: readonly Disturbance[], signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const disturbance = disturbances[this.#random.between(0, disturbances.length - 1)]
      await disturbance?.(this.#beside(this.#random.between(0, SESSIONS - 1)))
      await this.#rest(this.#pace.disturbances, signal)
    }
  }

  #beside(number: number): string {
    return `${this.session}-${number}`
  }

  #post(path: string, body: object): Promise<unknown> {
    return this.caller.post(path, body, { deadlineMs: ENGINE_MS })
  }

  async #rest([from, to]: readonly [number, number], signal: AbortSignal): Promise<void> {
    await sleep(this.#random.between(from, to), undefined, { signal }).catch(() => {})
  }
}

export function relic(session_id: string, change: object = {}): object {
  return {
    relic_name: 'web',
    session_id,
    image: HTTPD,
    resource_limits: { timeout_seconds: 30 },
    health_check_timeout_seconds: 20,
    ...change,
  }
}
