import { type Bench, type Measure, roundsOf } from '../bench.ts'
import { inTurn } from '../in-turn.ts'
import { startRelics } from '../residents.ts'
import { startBareFastify } from '../rivals/bare-fastify.ts'
import { atMost } from '../row.ts'
import { seededStore } from '../seed-store.ts'
import { startService } from '../service.ts'

const CONTAINERS = 50
const PAIRS_PER_ROUND = 3
const FULL_STARTS = 5

/** From the start of the process to its first answer that it takes work. */
export const start: Measure = {
  id: 'P10',
  rows: [
    {
      id: 'P10',
      work: 'start to ready, nothing stored',
      unit: 'ms',
      rival: 'bare Fastify: start to first answer',
      goal: atMost(600),
    },
    {
      id: 'P10 full',
      work: 'start to ready, 50 containers, 100,000 stored runs',
      unit: 'ms',
      goal: atMost(1_500),
    },
  ],
  async run(bench: Bench) {
    const { engine, pairs, signal } = bench
    const empty = await inTurn(
      {
        ours: {
          figure: async () => {
            await using service = await startService({ engine, signal })
            return service.readyMs
          },
        },
        rival: {
          figure: async () => {
            await using fastify = await startBareFastify({})
            return fastify.readyMs
          },
        },
      },
      { rounds: roundsOf(pairs, PAIRS_PER_ROUND), signal },
    )
    return { P10: empty, 'P10 full': { ours: await fullStarts(bench) } }
  },
}

async function fullStarts(bench: Bench): Promise<number[]> {
  const { engine, signal } = bench
  await using service = await startService({ engine, signal, dataDir: await seededStore(bench) })
  await startRelics(service, CONTAINERS)
  const times: number[] = []
  for (let count = 0; count < FULL_STARTS; count++) {
    await service.stop()
    await service.start()
    times.push(service.readyMs)
  }
  return times
}
