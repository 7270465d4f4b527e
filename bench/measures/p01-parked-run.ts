import type { Bench, Measure } from '../bench.ts'
import { inTurn } from '../in-turn.ts'
import { coldNotes, prime, untilParked } from '../pool.ts'
import { DOCKER_RUN, dockerRun } from '../rivals/docker-cli.ts'
import { openDockerPy } from '../rivals/docker-py.ts'
import { ratioAtMost } from '../row.ts'
import { startService } from '../service.ts'
import { median, quantile } from '../statistics.ts'
import { greet, type Run } from '../tool-runs.ts'

/** A p99 needs more runs than a median. */
const ROUNDS_PER_PAIR = 5

/** A tool run that finds a parked container, with the service's own defaults. */
export const parkedRun: Measure = {
  id: 'P1',
  rows: [
    {
      id: 'P1',
      work: 'tool run, parked container, whole HTTP call',
      unit: 'ms',
      rival: DOCKER_RUN,
      goal: ratioAtMost(0.18),
    },
    {
      id: 'P1 p99',
      work: 'the same: its p99 against the median of the rival',
      unit: 'ms',
      rival: DOCKER_RUN,
      goal: ratioAtMost(0.5),
    },
    { id: 'P1 docker-py', work: 'the same', unit: 'ms', rival: 'docker-py: run, wait, logs, remove' },
  ],
  async run(bench: Bench) {
    const { engine, pairs, signal } = bench
    await using service = await startService({ engine, signal })
    await prime(service, 1)
    const runs: Run[] = []
    const ours = {
      run: async () => {
        runs.push(await greet(service))
      },
      // The rival is not to wait for what the service does after its answer.
      settle: async () => {
        await engine.gone(runs.at(-1)?.container_id ?? '')
        await untilParked(service, 1)
      },
    }
    const cli = await inTurn(
      { ours, rival: { run: () => dockerRun(bench) } },
      { rounds: pairs * ROUNDS_PER_PAIR, signal },
    )
    const measured = { ours: cli.ours, rival: cli.rival }
    const notes = coldNotes(runs.slice(1))
    return {
      P1: { ...measured, notes },
      'P1 p99': { ...measured, ratio: quantile(cli.ours, 0.99) / median(cli.rival) },
      'P1 docker-py': await besideDockerPy(bench, ours),
    }
  },
}

async function besideDockerPy(bench: Bench, ours: Parameters<typeof inTurn>[0][string]) {
  const { pairs, signal } = bench
  const dockerPy = await openDockerPy(signal)
  if ('absent' in dockerPy) return { ...(await inTurn({ ours }, { rounds: pairs, signal })), rival: dockerPy }
  await using rival = dockerPy
  return await inTurn({ ours, rival: { figure: () => rival.run(bench) } }, { rounds: pairs, signal })
}
