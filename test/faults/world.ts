/** What is true of the world after faults: of each accepted run, and of what is left on the engine. */
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { decodeLabels, ownedBy } from '../../src/labels.ts'
import { TOOLBOX } from '../fixtures/images.ts'
import type { Caller } from './caller.ts'
import { type Installation, isParked, leftOf } from './installation.ts'
import { type Accepted, ENGINE_MS, type Load, STORE_MS, WHOLE_OUTPUT } from './load.ts'
import type { Witness } from './witness.ts'

const SETTLE_MS = 150_000
/** A sweep every 30 s of what is a minute old, and its removals. */
const SWEEP_MS = 110_000
const POLL_MS = 50
const UNFINISHED = new Set(['queued', 'preparing', 'running'])
const ENDS = new Set(['tool.completed', 'tool.failed', 'tool.timeout', 'tool.cancelled'])

export interface Run {
  execution_id: string
  status: string
  exit_code: number | null
  stdout: string
  completed_at: string
  failure: { code: string; message: string } | null
}

export interface WorldOptions {
  caller: Caller
  engine: DockerEngine
  installation: Installation
  /** Of the runs, with their ledger. */
  session: string
  /** Of runs that are not in the ledger. */
  witness?: Witness | undefined
}

/** Milliseconds since 1970 between which no dockerd ran. */
export interface Downtime {
  from: number
  to: number
}

/** What may be true of runs after the faults at hand. */
export interface Allowances {
  /** Codes of failures. */
  codes: readonly string[]
  /** Of what ended then, the engine loses the last output. */
  downtimes?: readonly Downtime[]
  /** Calls break off with the service: none is late then. */
  brokenCalls?: boolean
}

export interface Verdict {
  runs: Run[]
  /** One sentence for each promise that was broken. */
  problems: string[]
}

export class World {
  readonly #options: WorldOptions

  constructor(options: WorldOptions) {
    this.#options = options
  }

  /** Ends a load, waits for every end, looks, ends all sessions, and looks at what is left. */
  async verdict(load: Load, allowances: Allowances, moreSessions: readonly string[] = []): Promise<Verdict> {
    const { caller } = this.#options
    await load.end()
    const runs = await this.settled(load.accepted)
    const problems = await this.problemsOf(load.accepted, runs, allowances)
    const unclaimed = (await this.unclaimed()).map((container) => `claimed by no record: ${container}`)
    const errors = (await this.cleanUp([...load.sessions, ...moreSessions])).map(
      (error) => `cleanup: ${JSON.stringify(error)}`,
    )
    const left = (await this.#leftAtLast()).map((resource) => `left: ${resource}`)
    const late = allowances.brokenCalls ? [] : caller.late
    return { runs, problems: [...problems, ...unclaimed, ...errors, ...left, ...late, ...caller.broken] }
  }

  /** What is left when the service has had the time to find what it was never told that it made: a minute and its next look. */
  async #leftAtLast(): Promise<string[]> {
    const { engine, installation } = this.#options
    const until = Date.now() + SETTLE_MS
    for (;;) {
      const left = await leftOf(installation, engine)
      if (left.length === 0 || Date.now() > until) return left
      await sleep(POLL_MS)
    }
  }

  /** All runs that were accepted, once each, when they have ended, or as they are after two and a half minutes. */
  async settled(accepted: readonly Accepted[]): Promise<Run[]> {
    const runs: Run[] = []
    const until = Date.now() + SETTLE_MS
    for (const id of new Set(accepted.map(({ execution_id }) => execution_id))) {
      let run = await this.run(id)
      while (UNFINISHED.has(run.status) && Date.now() < until) {
        await sleep(POLL_MS)
        run = await this.run(id)
      }
      runs.push(run)
    }
    return runs
  }

  async run(id: string): Promise<Run> {
    const answer = await this.#options.caller.get(`/containers/tool/${id}`, { deadlineMs: STORE_MS })
    if (answer?.status !== 200) throw new Error(`run ${id} was accepted, and is answered ${answer?.status}`)
    return answer.body as unknown as Run
  }

  /**
   * What is wrong with runs: each has one end, told once; its process began once where it completed and
   * at most once otherwise; what completed has all the lines that the engine kept; what failed says so by
   * an allowed code and names the engine; two calls with one key made one run.
   */
  async problemsOf(
    accepted: readonly Accepted[],
    runs: readonly Run[],
    { codes, downtimes = [] }: Allowances,
  ): Promise<string[]> {
    const endedUnwatched = (run: Run) => {
      const at = Date.parse(run.completed_at)
      return downtimes.some(({ from, to }) => at >= from && at <= to)
    }
    const ledger = await this.#ledger()
    const { witness } = this.#options
    const told = this.#endsTold()
    const problems: string[] = []
    for (const run of runs) {
      const about = `${run.execution_id} ${run.status} ${JSON.stringify(run.failure)}`
      const began = (ledger.get(run.execution_id) ?? 0) + (witness?.began(run.execution_id) ?? 0)
      if (run.status === 'completed') {
        if (run.exit_code !== 0) problems.push(`${about}: exit code ${run.exit_code}`)
        const isWhole = run.stdout === WHOLE_OUTPUT || (endedUnwatched(run) && WHOLE_OUTPUT.startsWith(run.stdout))
        if (!isWhole) problems.push(`${about}: output ${JSON.stringify(run.stdout)}`)
        if (began !== 1) problems.push(`${about}: began ${began} times`)
      } else if (run.status === 'failed') {
        if (!codes.includes(run.failure?.code ?? '')) problems.push(`${about}: not one of ${codes}`)
        if (!/engine/i.test(run.failure?.message ?? '')) problems.push(`${about}: does not name the engine`)
        if (began > 1) problems.push(`${about}: began ${began} times`)
      } else problems.push(`${about}: not an end`)
      const ends = told.get(run.execution_id) ?? 0
      if (ends !== 1) problems.push(`${about}: its end was told ${ends} times`)
    }
    const keys = new Set(accepted.map(({ key }) => key)).size
    if (keys !== runs.length) problems.push(`${keys} keys made ${runs.length} runs`)
    return problems
  }

  /** Waits until no container of ours is left that no record claims; answers those that stay. */
  async unclaimed(): Promise<string[]> {
    const until = Date.now() + SWEEP_MS
    for (;;) {
      const unclaimed = await this.#unclaimed()
      if (unclaimed.length === 0 || Date.now() > until) return unclaimed
      await sleep(1_000)
    }
  }

  /** Ends the sessions; answers what could not be removed. */
  async cleanUp(sessions: readonly string[]): Promise<unknown[]> {
    const errors: unknown[] = []
    for (const session_id of sessions) {
      const body = { session_id, force: true }
      const answer = await this.#options.caller.post('/containers/cleanup/session', body, { deadlineMs: ENGINE_MS })
      errors.push(...((answer?.body['errors'] as unknown[] | undefined) ?? ['no answer']))
    }
    return errors
  }

  async #unclaimed(): Promise<string[]> {
    const { engine, installation } = this.#options
    const records = this.#rows<{ id: string; container_id: string | null }>(
      'select id, container_id from records where live = 1',
    )
    const claimed = new Set(records.map(({ container_id }) => container_id))
    const containers = await engine.containers.list(ownedBy(installation.instance))
    const unclaimed = containers.filter(
      ({ id, labels }) => !claimed.has(id) && decodeLabels(labels)?.kind !== 'toolbox',
    )
    return [
      ...unclaimed.filter((container) => !isParked(container)),
      ...unclaimed.filter(isParked).slice(installation.poolMax),
    ].map(({ name, status }) => `${name} (${status})`)
  }

  /** How often each run's end was told to those who follow events. */
  #endsTold(): Map<string, number> {
    const ended = this.#rows<{ type: string; data: string }>('select type, data from events').filter(({ type }) =>
      ENDS.has(type),
    )
    return counts(ended.map(({ data }) => String((JSON.parse(data) as { execution_id: string }).execution_id)))
  }

  /** How often the process of each run began, as it noted itself. */
  async #ledger(): Promise<Map<string, number>> {
    const { caller, session } = this.#options
    const answer = await caller.post(
      '/containers/tool/execute',
      {
        tool_name: 'ledger',
        session_id: session,
        image: TOOLBOX,
        command: ['sh', '-c', 'touch /output/runs; if [ -f /ledger/runs ]; then cp /ledger/runs /output/runs; fi'],
        volumes: [{ source: 'ledger', target: '/ledger' }],
      },
      { deadlineMs: ENGINE_MS },
    )
    if (answer?.body['status'] !== 'completed') throw new Error(`no ledger: ${JSON.stringify(answer?.body)}`)
    const file = await fetch(`${caller.url}/containers/tool/${answer.body['execution_id']}/artifacts/runs`)
    return counts((await file.text()).split('\n').filter((line) => line !== ''))
  }

  #rows<Row>(query: string): Row[] {
    const database = new DatabaseSync(join(this.#options.installation.folder, 'store.sqlite'), { readOnly: true })
    try {
      return database.prepare(query).all() as Row[]
    } finally {
      database.close()
    }
  }
}

function counts(items: readonly string[]): Map<string, number> {
  const counted = new Map<string, number>()
  for (const item of items) counted.set(item, (counted.get(item) ?? 0) + 1)
  return counted
}
