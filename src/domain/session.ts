import { z } from 'zod'
import { named, page, pageQuery, SessionId, Timestamp } from './common.ts'
import { Relic } from './relic.ts'
import { StatsTotals } from './stats.ts'
import { ToolRunSummary } from './tool.ts'
import { Worker } from './worker.ts'

const Bound = z.number().int().min(1).max(1_000_000_000).nullable()

const BOUNDED = {
  runs: 'Tool runs that have not ended, waiting or not',
  containers: 'Tool runs that have not ended, relics and workers together',
  memory_mb: 'Sum of their memory limits; a stopped relic or worker has none',
}

/** What a session may have at once; null for what is not bounded. */
export const Quotas = named(
  'Quotas',
  z.object({
    runs: Bound.describe(BOUNDED.runs),
    containers: Bound.describe(BOUNDED.containers),
    memory_mb: Bound.describe(BOUNDED.memory_mb),
  }),
)
export type Quotas = z.infer<typeof Quotas>

const SetQuotas = z.strictObject({
  runs: Bound.default(null).describe(BOUNDED.runs),
  containers: Bound.default(null).describe(BOUNDED.containers),
  memory_mb: Bound.default(null).describe(BOUNDED.memory_mb),
})

const Used = z.object({ runs: z.number().int(), containers: z.number().int(), memory_mb: z.number().int() })

export const SessionSummary = named(
  'SessionSummary',
  z.object({
    session_id: z.string(),
    created_at: Timestamp,
    last_activity_at: Timestamp,
    ttl_seconds: z.number().nullable(),
    idle_timeout_seconds: z.number().nullable(),
    expires_at: Timestamp.nullable().describe('By its time to live; activity does not move it'),
    quotas: Quotas.describe('In force: its own, and never more than the operator allows'),
    used: Used.describe('Of what its quotas bound'),
    tools: z.object({ total: z.number().int(), active: z.number().int() }),
    relics: z.object({ total: z.number().int(), active: z.number().int() }),
    workers: z.object({ total: z.number().int(), active: z.number().int() }),
    network: z.object({ id: z.string(), name: z.string(), subnet: z.string().nullable() }).nullable(),
  }),
)
export type SessionSummary = z.infer<typeof SessionSummary>

/** A session whole: its latest 100 tools, its relics and workers, and what its running containers use. */
export const Session = named(
  'Session',
  SessionSummary.extend({
    tools: z.array(ToolRunSummary),
    relics: z.array(Relic),
    workers: z.array(Worker),
    usage: StatsTotals,
  }),
)
export type Session = z.infer<typeof Session>

const Seconds = z.number().min(1).max(315_360_000).nullable().default(null)

/** What a session is set to; what is left out is without bound, or the operator's. */
export const RenewSession = named(
  'RenewSession',
  z.strictObject({
    ttl_seconds: Seconds.describe('From now on; then the session is cleaned up'),
    idle_timeout_seconds: Seconds.describe(
      'Without activity (calls, running tools and commands, connections to published ports) it is cleaned up',
    ),
    quotas: SetQuotas.prefault({}).describe('Beyond them: 429 quota_exceeded, before anything is made'),
  }),
)
export type RenewSession = z.infer<typeof RenewSession>

export const SessionPage = page('SessionPage', SessionSummary)
export const ListSessions = z.strictObject(pageQuery(SessionId))

export const CleanupSession = named(
  'CleanupSession',
  z.strictObject({
    session_id: SessionId,
    force: z.boolean().default(false).describe('Kill at once; otherwise containers get their stop timeout'),
    dry_run: z.boolean().default(false).describe('Only tell what would be removed'),
  }),
)

export const CleanupNetworks = named(
  'CleanupNetworks',
  z.strictObject({
    force: z.boolean().default(false).describe('Also networks with containers, which are detached'),
    dry_run: z.boolean().default(false),
  }),
)

export const CleanupOrphans = named('CleanupOrphans', z.strictObject({ dry_run: z.boolean().default(false) }))

export const CleanupReport = named(
  'CleanupReport',
  z.object({
    containers_removed: z.number().int(),
    networks_removed: z.number().int(),
    volumes_removed: z.number().int(),
    tools_cancelled: z.number().int(),
    errors: z.array(z.object({ resource: z.string(), message: z.string() })),
  }),
)
export type CleanupReport = z.infer<typeof CleanupReport>
