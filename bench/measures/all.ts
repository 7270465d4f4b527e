/** The measures, in the order of the table. */
import type { Measure } from '../bench.ts'
import { parkedRun } from './p01-parked-run.ts'
import { coldRun } from './p02-cold-run.ts'
import { twentyRuns } from './p03-twenty-runs.ts'
import { sustainedRuns } from './p04-sustained-runs.ts'
import { relicStart } from './p05-relic-start.ts'
import { stats } from './p06-stats.ts'
import { oneRunRead } from './p07-one-run-read.ts'
import { sessionCleanup } from './p08-session-cleanup.ts'
import { flood } from './p09-flood.ts'
import { start } from './p10-start.ts'
import { growth } from './p11-growth.ts'
import { longQueue } from './p12-long-queue.ts'

export const MEASURES: readonly Measure[] = [
  parkedRun,
  coldRun,
  twentyRuns,
  sustainedRuns,
  relicStart,
  stats,
  oneRunRead,
  sessionCleanup,
  flood,
  start,
  growth,
  longQueue,
]
