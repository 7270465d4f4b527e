import { type Bench, type Measure, roundsOf } from '../bench.ts'
import { inTurn } from '../in-turn.ts'
import { requestsPerSecond } from '../load.ts'
import { startBareFastify } from '../rivals/bare-fastify.ts'
import { ratioAtLeast } from '../row.ts'
import { startService } from '../service.ts'
import { greet } from '../tool-runs.ts'

const CONNECTIONS = 8
const TURN_MS = 2_500
const PAIRS_PER_ROUND = 4
/** V8 compiles what is on the path for so long. */
const WARM_UP = 5

/** How fast a finished run is read. */
export const oneRunRead: Measure = {
  id: 'P7',
  rows: [
    {
      id: 'P7',
      work: '`GET /containers/tool/{id}`, answers a second over 8 connections',
      unit: '/s',
      rival: 'bare Fastify with the same JSON',
      goal: ratioAtLeast(0.6),
    },
  ],
  async run({ engine, pairs, signal }: Bench) {
    await using service = await startService({ engine, signal })
    const path = `/containers/tool/${(await greet(service)).execution_id}`
    await using fastify = await startBareFastify(await service.get<object>(path))
    const load = (url: string) => ({
      figure: () => requestsPerSecond(`${url}${path}`, { connections: CONNECTIONS, durationMs: TURN_MS, signal }),
    })
    const rounds = roundsOf(pairs, PAIRS_PER_ROUND)
    return {
      P7: await inTurn({ ours: load(service.url), rival: load(fastify.url) }, { rounds, warmUp: WARM_UP, signal }),
    }
  },
}
