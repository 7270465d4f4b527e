import { HTTPD } from '../bare-engine.ts'
import type { Bench, Measure } from '../bench.ts'
import { inTurn, timedStart } from '../in-turn.ts'
import { endSession } from '../residents.ts'
import { openTestcontainers } from '../rivals/testcontainers.ts'
import { ratioAtMost } from '../row.ts'
import { startService } from '../service.ts'

/** By ten rounds the ratio was 0.96 to 1.02 on one machine. */
const ROUNDS_PER_PAIR = 3

/** The first relic of a session, which has no network yet. */
export const relicStart: Measure = {
  id: 'P5',
  rows: [
    {
      id: 'P5',
      work: "relic: start to healthy, session's first",
      unit: 'ms',
      rival: 'testcontainers, a network and the same image',
      goal: ratioAtMost(0.9),
    },
  ],
  async run(bench: Bench) {
    const { engine, pairs, signal } = bench
    await using service = await startService({ engine, signal })
    const rounds = pairs * ROUNDS_PER_PAIR
    let sessions = 0
    const ours = timedStart({
      start: async () => {
        sessions += 1
        const session = `relics-${sessions}`
        await service.post('/containers/relic/start', { relic_name: 'web', session_id: session, image: HTTPD })
        return session
      },
      end: (session) => endSession(service, session),
    })
    const testcontainers = await openTestcontainers(bench)
    if ('absent' in testcontainers)
      return { P5: { ...(await inTurn({ ours }, { rounds, signal })), rival: testcontainers } }
    const rival = timedStart({ start: () => testcontainers.start(), end: (started) => started.remove() })
    return { P5: await inTurn({ ours, rival }, { rounds, signal }) }
  },
}
