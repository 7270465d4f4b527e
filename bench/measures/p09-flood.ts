import { availableParallelism } from 'node:os'
import { TOOLBOX } from '../bare-engine.ts'
import { type Bench, type Measure, roundsOf } from '../bench.ts'
import { inTurn } from '../in-turn.ts'
import { COLD } from '../pool.ts'
import { docker } from '../rivals/docker-cli.ts'
import { atMost, ratioAtMost } from '../row.ts'
import { startService } from '../service.ts'
import { greet, type Run } from '../tool-runs.ts'

const BYTES = 1_000_000_000
const PART = 10_000_000
/** A thousand bytes with its end: an engine takes output line by line, and shorter ones more slowly. */
const LINE = 'abcdefghijklmnopqrstuvwxyz 012345'.repeat(31).slice(0, 999)
/** From a file, since busybox's `head` writes too slowly to flood anybody. */
const FLOOD = [
  'sh',
  '-c',
  `yes "${LINE}" | head -c ${PART} > /tmp/part; i=0; while [ $i -lt ${BYTES / PART} ]; do cat /tmp/part; i=$((i+1)); done`,
]
const MEMORY_MB = 512
const PAIRS_PER_ROUND = 7

/** A tool that writes a gigabyte, with the same limits on both sides. */
export const flood: Measure = {
  id: 'P9',
  rows: [
    {
      id: 'P9',
      work: 'a tool that writes 1 GB to stdout',
      unit: 'ms',
      rival: 'docker run > /dev/null',
      goal: ratioAtMost(1.15),
    },
    {
      id: 'P9 memory',
      work: 'the same, a few times: what the service grows by at most',
      unit: 'MiB',
      goal: atMost(32),
    },
  ],
  async run({ engine, label, pairs, signal }: Bench) {
    const cpus = availableParallelism()
    await using service = await startService({ engine, signal, environment: COLD })
    await greet(service)
    const before = await service.rss()
    await service.forgetPeak()
    const ours = {
      run: async () => {
        const run = await service.post<Run>('/containers/tool/execute', {
          tool_name: 'flood',
          session_id: 'flood',
          image: TOOLBOX,
          command: FLOOD,
          resource_limits: { cpu_limit: cpus, memory_mb: MEMORY_MB },
        })
        if (run.stdout_bytes !== BYTES) throw new Error(`of the flood arrived ${run.stdout_bytes} bytes`)
      },
    }
    const limits = ['--cpus', String(cpus), '--memory', `${MEMORY_MB}m`]
    const args = ['run', '--rm', '--network', 'none', '--label', label.join('='), ...limits, TOOLBOX, ...FLOOD]
    const rival = {
      run: async () => {
        await docker(args, { signal, discard: true })
      },
    }
    const measured = await inTurn({ ours, rival }, { rounds: roundsOf(pairs, PAIRS_PER_ROUND), warmUp: 0, signal })
    return { P9: measured, 'P9 memory': { ours: [(await service.peakRss()) - before] } }
  },
}
