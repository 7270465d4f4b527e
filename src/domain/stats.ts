import { z } from 'zod'
import { named, queryBoolean, SessionId, Timestamp } from './common.ts'

const Amount = z.number().nullable()

/** Of a container in one sample, as it is told now and as it is told of the past. */
const CPU_USED = {
  cpu_percent: Amount.describe('Of one core: 200 is two cores'),
  cpu_window_seconds: Amount.describe(
    'What cpu_percent was measured over: the time between two samples, or since the start where there is one alone',
  ),
}
const ALSO_USED = {
  memory_percent: Amount,
  network_rx_mb: Amount,
  network_tx_mb: Amount,
  disk_read_mb: Amount,
  disk_write_mb: Amount,
  pids: z.number().int().nullable(),
}

/** What is null has not been sampled, or the engine does not tell it: never an invented 0. */
export const ContainerStats = named(
  'ContainerStats',
  z.object({
    container_id: z.string(),
    name: z.string(),
    kind: z.enum(['tool', 'relic', 'worker']),
    id: z.string(),
    session_id: z.string().nullable(),
    status: z.string(),
    running_for_seconds: Amount,
    ...CPU_USED,
    memory_used_mb: Amount.describe('Without page cache, as docker stats shows it'),
    memory_limit_mb: Amount,
    ...ALSO_USED,
    sampled_at: Timestamp.nullable(),
  }),
)
export type ContainerStats = z.infer<typeof ContainerStats>

export const PastStats = named(
  'PastStats',
  z.object({
    sampled_at: Timestamp,
    ...CPU_USED,
    memory_used_mb: Amount,
    ...ALSO_USED,
  }),
)
export type PastStats = z.infer<typeof PastStats>

export const OneContainerStats = named(
  'OneContainerStats',
  ContainerStats.extend({
    history: z
      .array(PastStats)
      .optional()
      .describe('Where it was asked for: the samples that were taken then, oldest first, 600 at most'),
  }),
)
export type OneContainerStats = z.infer<typeof OneContainerStats>

export const StatsTotals = named(
  'StatsTotals',
  z.object({
    containers: z.number().int(),
    running: z.number().int(),
    cpu_percent: z.number(),
    memory_used_mb: z.number(),
    memory_limit_mb: z.number(),
    network_rx_mb: z.number(),
    network_tx_mb: z.number(),
    disk_read_mb: z.number(),
    disk_write_mb: z.number(),
    pids: z.number().int(),
  }),
)
export type StatsTotals = z.infer<typeof StatsTotals>

export const AllStats = named(
  'AllStats',
  z.object({ items: z.array(ContainerStats), totals: StatsTotals, sampled_at: Timestamp }),
)
export type AllStats = z.infer<typeof AllStats>

export const ListStats = z.strictObject({
  session_id: SessionId.optional(),
  kind: z.enum(['tool', 'relic', 'worker']).optional(),
})

const UNIT_SECONDS = { s: 1, m: 60, h: 3600 } as const
const LONGEST_SECONDS = 3600
const DURATION = /^([1-9]\d{0,3})([smh])$/

const History = z
  .string()
  .regex(DURATION, 'use a duration such as 30s, 10m or 1h')
  .transform((text) => {
    const [, count, unit] = DURATION.exec(text) ?? []
    return Number(count) * UNIT_SECONDS[unit as keyof typeof UNIT_SECONDS]
  })
  .pipe(z.number().max(LONGEST_SECONDS, 'use at most 1h'))
  .meta({ type: 'string', pattern: DURATION.source, examples: ['30s', '10m', '1h'] })
  .describe('Adds the samples of so long until now, at most 1h; they are taken while somebody asks')

export const OneStatsQuery = z.strictObject({ follow: queryBoolean.optional(), history: History.optional() })
