import { z } from 'zod'
import { named, PageQuery, page, SessionId, Timestamp } from './common.ts'
import { Relic } from './relic.ts'
import { StatsTotals } from './stats.ts'
import { ToolRunSummary } from './tool.ts'
import { Worker } from './worker.ts'

export const SessionSummary = named(
  'SessionSummary',
  z.object({
    session_id: z.string(),
    created_at: Timestamp,
    last_activity_at: Timestamp,
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

export const SessionPage = page('SessionPage', SessionSummary)
export const ListSessions = z.strictObject(PageQuery)

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
