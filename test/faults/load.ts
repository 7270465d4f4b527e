/** A mixed load on a service whose engine fails: runs, with relics and workers that come and go beside. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { HTTPD, TOOLBOX } from '../fixtures/images.ts'
import type { Random } from '../support/random.ts'
import type { Caller } from './caller.ts'

export const LINES = 12
const SUBMITTERS = 2
const SESSIONS = 3

export interface Accepted {
  key: string
  execution_id: string
}

export class Load {
  readonly caller: Caller
  /** Of the runs; what comes and goes has sessions of its own. */
  readonly session: string
  /** A run for each key; a key that was answered twice is there twice. */
  readonly accepted: Accepted[] = []
  readonly #random: Random
  /** What a call that was not answered had asked for, to be asked for again with its key. */
  readonly #pending = new Map<string, object>()
  #over = new AbortController()
  #working: Promise<unknown> = Promise.resolve()

  constructor(caller: Caller, random: Random) {
    this.caller = caller
    this.#random = random
    this.session = `faults-${randomUUID().slice(0, 8)}`
  }

  get sessions(): string[] {
    return [this.session, ...Array.from({ length: SESSIONS }, (_, number) => `${this.session}-${number}`)]
  }

  begin(): void {
    this.#over = new AbortController()
    const submitters = Array.from({ length: SUBMITTERS }, () => this.#submit(this.#over.signal))
    this.#working = Promise.all([...submitters, this.#disturb(this.#over.signal)])
  }

  /** Stops, and asks again for what was not answered: from then on the service is in order. */
  async end(): Promise<void> {
    this.#over.abort()
    await this.#working
    for (const [key, body] of this.#pending) {
      if (!(await this.accept(key, body))) throw new Error('a service whose engine answers takes no runs')
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

  async #submit(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const [key, body] = this.#pending.entries().next().value ?? [randomUUID(), this.#run()]
      this.#pending.set(key, body)
      if (await this.accept(key, body)) this.#pending.delete(key)
      await pause(this.#random.between(200, 800), signal)
    }
  }

  /** Tells its id to the ledger as it begins, and writes its lines over up to a second. */
  #run(): object {
    const nap = this.#random.between(0, 8) / 100
    const script = `echo $EXECUTION_ID >> /ledger/runs; i=0; while [ $i -lt ${LINES} ]; do echo line $i; i=$((i+1)); sleep ${nap}; done`
    return {
      tool_name: 'faults',
      session_id: this.session,
      image: TOOLBOX,
      command: ['sh', '-c', script],
      volumes: [{ source: 'ledger', target: '/ledger', read_only: false }],
      wait: false,
    }
  }

  async #disturb(signal: AbortSignal): Promise<void> {
    const deadlineMs = ENGINE_MS
    for (let turn = 0; !signal.aborted; turn++) {
      const session_id = `${this.session}-${turn % SESSIONS}`
      const worker = `/containers/worker/${session_id}`
      const choice = this.#random.between(0, 4)
      if (choice === 0) await this.caller.post('/containers/relic/start', relic(session_id), { deadlineMs })
      else if (choice === 1) await this.caller.post(`${worker}/ensure`, { image: TOOLBOX, session_id }, { deadlineMs })
      else if (choice === 2)
        await this.caller.post(`${worker}/exec`, { command: 'sleep 2', wait: false }, { deadlineMs })
      else if (choice === 3) await this.caller.post(`${worker}/refresh`, { timeout_seconds: 0 }, { deadlineMs })
      else await this.caller.post('/containers/cleanup/session', { session_id, force: true }, { deadlineMs })
      await pause(this.#random.between(20, 300), signal)
    }
  }
}

/** What the store alone answers: no engine is asked. */
export const STORE_MS = 5_000
/** What waits for the engine: the longest deadline of a call that a request makes, which is a start. */
export const ENGINE_MS = 60_000

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

async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  await sleep(milliseconds, undefined, { signal }).catch(() => {})
}
