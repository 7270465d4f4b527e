import { setTimeout as sleep } from 'node:timers/promises'
import type { Bench, Measure } from '../bench.ts'
import { COLD } from '../pool.ts'
import { SLEEP } from '../residents.ts'
import { atMost } from '../row.ts'
import { type BenchService, startService } from '../service.ts'
import { atOnce, greet, greeting, until } from '../tool-runs.ts'

const QUEUED = 10_000
const AT_ONCE = 16
/** As in P11: V8 is asked to give back what it does not use after eight idle seconds. */
const SETTLE_MS = 15_000
const WARM_UP_RUNS = 20
const ENDED_WITHIN_MS = 60_000

interface ToolRun {
  execution_id: string
  status: string
  started_at: string | null
}

/** Ten thousand runs of one session wait; somebody else comes. */
export const longQueue: Measure = {
  id: 'P12',
  rows: [
    { id: 'P12', work: '10,000 queued runs: what the service grows by', unit: 'MiB', goal: atMost(50) },
    {
      id: 'P12 newcomer',
      work: "a newcomer's run behind them: runs that start before it, for each that runs at once",
      unit: 'runs',
      goal: atMost(2),
    },
  ],
  async run({ engine, signal }: Bench) {
    const environment = { ...COLD, CO_MAX_CONCURRENT_RUNS: '1', CO_QUEUE_LIMIT: String(2 * QUEUED) }
    await using service = await startService({ engine, signal, environment })
    for (let run = 0; run < WARM_UP_RUNS; run++) await greet(service)
    const blocker = await queue(service, { ...greeting('blocker'), command: SLEEP })
    await sleep(SETTLE_MS, undefined, { signal })
    const before = await service.rss()
    await atOnce(QUEUED, AT_ONCE, () => queue(service, greeting('flood')))
    await sleep(SETTLE_MS, undefined, { signal })
    const grown = (await service.rss()) - before
    const newcomer = await queue(service, greeting('newcomer'))
    await service.post(`/containers/tool/${blocker.execution_id}/cancel`, {})
    const ahead = await startedBefore(service, newcomer)
    return { P12: { ours: [grown] }, 'P12 newcomer': { ours: [ahead] } }
  },
}

function queue(service: BenchService, request: object): Promise<ToolRun> {
  return service.post<ToolRun>('/containers/tool/execute', { ...request, wait: false })
}

/** How many runs of the flood started before a run did. */
async function startedBefore(service: BenchService, { execution_id }: ToolRun): Promise<number> {
  const started = await until(async () => {
    const run = await service.get<ToolRun>(`/containers/tool/${execution_id}`)
    return run.started_at ?? undefined
  }, ENDED_WITHIN_MS)
  if (started === undefined) throw new Error('the run of the newcomer did not start')
  const lists = ['running', 'completed'].map((status) =>
    service.get<{ items: ToolRun[] }>(`/containers/tool?session_id=flood&status=${status}&limit=1000`),
  )
  const runs = (await Promise.all(lists)).flatMap(({ items }) => items)
  return runs.filter(({ started_at }) => started_at !== null && started_at < started).length
}
