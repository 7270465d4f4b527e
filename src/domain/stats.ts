import { z } from 'zod'
import { named, queryBoolean, SessionId, Timestamp } from './common.ts'

const Amount = z.number().nullable()

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
    cpu_percent: Amount.describe('Of one core: 200 is two cores'),
    memory_used_mb: Amount.describe('Without page cache, as docker stats shows it'),
    memory_limit_mb: Amount,
    memory_percent: Amount,
    network_rx_mb: Amount,
    network_tx_mb: Amount,
    disk_read_mb: Amount,
    disk_write_mb: Amount,
    pids: z.number().int().nullable(),
    sampled_at: Timestamp.nullable(),
  }),
)
export type ContainerStats = z.infer<typeof ContainerStats>

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

export const OneStatsQuery = z.strictObject({ follow: queryBoolean.optional() })
