import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Page } from '../../src/domain/common.ts'
import type { Bench, Measure } from '../bench.ts'
import { inTurn } from '../in-turn.ts'
import { COLD } from '../pool.ts'
import { atMost, type Outcome, ratioAtMost } from '../row.ts'
import { seededStore } from '../seed-store.ts'
import { type BenchService, startService } from '../service.ts'
import { atOnce, greet, greeter } from '../tool-runs.ts'

/** The ratio of a run to itself is 0.97 to 1.09 by 20 of each, and 0.99 to 1.02 by 60. */
const ROUNDS_PER_PAIR = 6
const WARM_UP = 5
/** V8 gives back what it does not use once nothing has happened for eight seconds. */
const IDLE_MS = 15_000
const RUNS = 10_000
const AT_ONCE = 8
const PAGE = 100
const EARLY_RUNS = 2_000
const ON_MEMORY_ENGINE = join(import.meta.dirname, '../memory-service.ts')

/** What the service needs more of the longer it has run: nothing, if it can be. */
export const growth: Measure = {
  id: 'P11',
  rows: [
    {
      id: 'P11',
      work: 'cold tool run with 100,000 stored runs',
      unit: 'ms',
      rival: 'the same service, nothing stored',
      goal: ratioAtMost(1.05),
    },
    {
      id: 'P11 list',
      work: '`GET /containers/tool`: a page of 100 runs, the oldest of 100,000',
      unit: 'ms',
      rival: 'the same service, the newest of them',
    },
    { id: 'P11 idle', work: 'resident memory of the service, idle', unit: 'MiB', goal: atMost(100) },
    {
      id: 'P11 runs',
      work: 'what that has grown by after 10,000 runs (on an engine in memory)',
      unit: 'MiB',
      goal: atMost(10),
    },
  ],
  async run(bench: Bench) {
    return {
      P11: await besideAnEmptyStore(bench),
      'P11 list': await oldestPage(bench),
      'P11 idle': await idleMemory(bench),
      'P11 runs': await memoryAfterRuns(bench),
    }
  },
}

async function besideAnEmptyStore(bench: Bench): Promise<Outcome> {
  const { engine, pairs, signal } = bench
  const dataDir = await seededStore(bench)
  await using full = await startService({ engine, signal, environment: COLD, dataDir })
  await using empty = await startService({ engine, signal, environment: COLD })
  const contenders = { ours: greeter(full, engine), rival: greeter(empty, engine) }
  return await inTurn(contenders, { rounds: pairs * ROUNDS_PER_PAIR, warmUp: WARM_UP, signal })
}

async function oldestPage(bench: Bench): Promise<Outcome> {
  const { engine, pairs, signal } = bench
  const dataDir = await seededStore(bench)
  await using service = await startService({ engine, signal, environment: COLD, dataDir })
  const oldest = await cursorOfOldest(service)
  const page = (query: string) => ({ run: () => service.get(`/containers/tool?limit=${PAGE}${query}`) })
  const contenders = { ours: page(`&cursor=${oldest}`), rival: page('') }
  return await inTurn(contenders, { rounds: pairs * ROUNDS_PER_PAIR, warmUp: WARM_UP, signal })
}

/** Of the last page, by the way that a caller has: from page to page. */
async function cursorOfOldest(service: BenchService): Promise<string> {
  const pageFrom = (query: string) => service.get<Page<unknown>>(`/containers/tool?limit=${PAGE}${query}`)
  let oldest: string | undefined
  let { next_cursor: next } = await pageFrom('')
  while (next !== null) {
    oldest = next
    next = (await pageFrom(`&cursor=${next}`)).next_cursor
  }
  if (oldest === undefined) throw new Error('the list of runs has one page alone')
  return oldest
}

async function idleMemory({ engine, signal }: Bench): Promise<Outcome> {
  await using service = await startService({ engine, signal })
  await sleep(IDLE_MS, undefined, { signal })
  return { ours: [await service.rss()] }
}

/** On an engine in memory: ten thousand containers take a real one half an hour. */
async function memoryAfterRuns({ engine, signal }: Bench): Promise<Outcome> {
  await using service = await startService({ engine, signal, environment: COLD, main: ON_MEMORY_ENGINE })
  await sleep(IDLE_MS, undefined, { signal })
  const idle = await service.rss()
  await atOnce(EARLY_RUNS, AT_ONCE, () => greet(service))
  await sleep(IDLE_MS, undefined, { signal })
  const early = await service.rss()
  await atOnce(RUNS - EARLY_RUNS, AT_ONCE, () => greet(service))
  await sleep(IDLE_MS, undefined, { signal })
  const late = await service.rss()
  const after = `${(early - idle).toFixed(0)} MiB of it after the first ${EARLY_RUNS.toLocaleString('en-US')} runs`
  return { ours: [late - idle], notes: [after] }
}
