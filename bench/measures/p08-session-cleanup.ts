import { TOOLBOX } from '../bare-engine.ts'
import { type Bench, labelsOf, type Measure, roundsOf } from '../bench.ts'
import { inTurn, timedEnd } from '../in-turn.ts'
import { endSession, SLEEP, startRelics, startWorkers } from '../residents.ts'
import { docker } from '../rivals/docker-cli.ts'
import { ratioAtMost } from '../row.ts'
import { startService } from '../service.ts'
import { atOnce } from '../tool-runs.ts'

const OF_EACH = 10
const PAIRS_PER_ROUND = 5
const STARTED_AT_ONCE = 4

/** The end of a session that holds much. */
export const sessionCleanup: Measure = {
  id: 'P8',
  rows: [
    {
      id: 'P8',
      work: 'cleanup of a session: 10 relics, 10 workers, network',
      unit: 'ms',
      rival: 'docker rm -f of 20 at once, then docker network rm',
      goal: ratioAtMost(1.1),
    },
  ],
  async run(bench: Bench) {
    const { engine, pairs, signal } = bench
    await using service = await startService({ engine, signal })
    const ours = timedEnd({
      start: async () => {
        await startRelics(service, OF_EACH, 'ends')
        await startWorkers(service, OF_EACH, 'ends-0')
      },
      end: async () => {
        const report = await endSession(service, 'ends-0')
        if (report.containers_removed !== 2 * OF_EACH) throw new Error(`cleanup: ${JSON.stringify(report)}`)
      },
    })
    const rival = timedEnd({
      start: () => bareSession(bench),
      end: async ({ network, containers }) => {
        await docker(['rm', '-f', ...containers], { signal })
        await docker(['network', 'rm', network], { signal })
      },
    })
    return { P8: await inTurn({ ours, rival }, { rounds: roundsOf(pairs, PAIRS_PER_ROUND), signal }) }
  },
}

/** As many containers on one network, made by bare calls. */
async function bareSession(bench: Bench): Promise<{ network: string; containers: string[] }> {
  const { engine, label } = bench
  const { Id: network } = await engine.json<{ Id: string }>('POST', '/networks/create', {
    Name: `${label[1]}-ends`,
    Labels: labelsOf(bench),
    IPAM: { Config: [{ Subnet: '10.198.0.0/27' }] },
  })
  const containers = await atOnce(2 * OF_EACH, STARTED_AT_ONCE, async () => {
    const id = await engine.create({
      Image: TOOLBOX,
      Cmd: SLEEP,
      Labels: labelsOf(bench),
      HostConfig: { NetworkMode: network },
    })
    await engine.call('POST', `/containers/${id}/start`)
    return id
  })
  return { network, containers }
}
