import { type Bench, type Measure, roundsOf } from '../bench.ts'
import { inTurn } from '../in-turn.ts'
import { startRelics } from '../residents.ts'
import { docker } from '../rivals/docker-cli.ts'
import { openDockerPy } from '../rivals/docker-py.ts'
import { atMost, type Measured } from '../row.ts'
import { type BenchService, startService } from '../service.ts'
import { median } from '../statistics.ts'

const MOST_ASKED = 5
const CONTAINERS = 50
const STARTS = 3
const ASKED_IN_A_TURN = 10
const PAIRS_PER_ROUND = 4

/** What fifty containers use, told at once. */
export const stats: Measure = {
  id: 'P6',
  rows: [
    {
      id: 'P6',
      work: '`GET /containers/stats`, 50 containers',
      unit: 'ms',
      rival: 'docker stats --no-stream',
      goal: atMost(5),
    },
    { id: 'P6 docker-py', work: 'the same', unit: 'ms', rival: 'docker-py, one by one' },
    { id: 'P6 first', work: 'the same, asked for the first time after a start', unit: 'ms', goal: atMost(1_200) },
  ],
  async run(bench: Bench) {
    const { engine, pairs, signal } = bench
    await using service = await startService({ engine, signal })
    const ids = await startRelics(service, CONTAINERS)
    const first: number[] = []
    for (let start = 0; start < STARTS; start++) {
      await service.stop()
      await service.start()
      first.push(await timed(() => untilAllAreTold(service)))
    }
    const { ours, rival } = await inTurn(
      {
        ours: { prepare: () => untilAllAreTold(service), figure: () => oneOf(service) },
        rival: {
          run: async () => {
            await docker(['stats', '--no-stream', ...ids], { signal })
          },
        },
      },
      { rounds: roundsOf(pairs, PAIRS_PER_ROUND), signal },
    )
    return {
      P6: { ours, rival },
      'P6 docker-py': await besideDockerPy(bench, ids, ours),
      'P6 first': { ours: first },
    }
  },
}

async function ask(service: BenchService): Promise<void> {
  const sampled = await told(service)
  if (sampled !== CONTAINERS) throw new Error(`stats told of ${sampled} containers, and not of ${CONTAINERS}`)
}

/** A first answer waits for samples for a bounded time: on a bad day it is the second that has all. */
async function untilAllAreTold(service: BenchService): Promise<void> {
  for (let asked = 1; (await told(service)) !== CONTAINERS; asked++) {
    if (asked === MOST_ASKED) throw new Error(`stats did not tell of ${CONTAINERS} containers in ${asked} answers`)
  }
}

/** Of how many containers it has a sample. */
async function told(service: BenchService): Promise<number> {
  const { items } = await service.get<{ items: { memory_used_mb: number | null }[] }>('/containers/stats')
  return items.filter(({ memory_used_mb }) => memory_used_mb !== null).length
}

/** The median of some calls: the rival takes a thousand times as long as one. */
async function oneOf(service: BenchService): Promise<number> {
  const times: number[] = []
  for (let call = 0; call < ASKED_IN_A_TURN; call++) times.push(await timed(() => ask(service)))
  return median(times)
}

/** Once: it takes two seconds for each container. */
async function besideDockerPy({ signal }: Bench, ids: readonly string[], ours: readonly number[]): Promise<Measured> {
  const dockerPy = await openDockerPy(signal)
  if ('absent' in dockerPy) return { ours, rival: dockerPy }
  await using rival = dockerPy
  return { ours, rival: [await rival.stats(ids)], notes: ['the rival was measured once'] }
}

async function timed(work: () => Promise<void>): Promise<number> {
  const began = performance.now()
  await work()
  return performance.now() - began
}
