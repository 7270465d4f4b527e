import { type Bench, labelsOf, type Measure } from '../bench.ts'
import { inTurn } from '../in-turn.ts'
import { COLD } from '../pool.ts'
import { DOCKER_RUN, dockerRun } from '../rivals/docker-cli.ts'
import { ratioAtMost } from '../row.ts'
import { startService } from '../service.ts'
import { greeter } from '../tool-runs.ts'

const ROUNDS_PER_PAIR = 2
const WARM_UP = 3

/** A tool run for which nothing is parked. */
export const coldRun: Measure = {
  id: 'P2',
  rows: [
    {
      id: 'P2',
      work: 'tool run, cold, whole HTTP call',
      unit: 'ms',
      rival: 'bare engine calls: create, start, wait, logs, remove',
      goal: ratioAtMost(0.95),
    },
    { id: 'P2 docker run', work: 'the same', unit: 'ms', rival: DOCKER_RUN },
  ],
  async run(bench: Bench) {
    const { engine, pairs, signal } = bench
    await using service = await startService({ engine, signal, environment: COLD })
    const { ours, bare, cli } = await inTurn(
      {
        ours: greeter(service, engine),
        bare: { run: () => engine.run(labelsOf(bench)) },
        cli: { run: () => dockerRun(bench) },
      },
      { rounds: pairs * ROUNDS_PER_PAIR, warmUp: WARM_UP, signal },
    )
    return { P2: { ours, rival: bare }, 'P2 docker run': { ours, rival: cli } }
  },
}
