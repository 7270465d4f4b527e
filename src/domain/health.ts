import { z } from 'zod'
import { named } from './common.ts'

export const Health = named(
  'Health',
  z.object({
    status: z.enum(['healthy', 'degraded', 'unhealthy']),
    engine: z.object({
      reachable: z.boolean(),
      name: z.string(),
      version: z.string(),
      api_version: z.string(),
      storage_driver: z.string(),
      error: z.string().nullable(),
    }),
    disk: z.object({ low: z.boolean().describe('New work is refused until there is room') }),
    isolation: z
      .object({
        session_networks: z.enum(['gateway_isolated', 'inhibit_ipv4', 'none']),
        verified: z
          .boolean()
          .describe(
            'Since the service started, a network was seen that has the option, and no address on the machine of the service',
          ),
        datagrams: z
          .enum(['refused', 'taken', 'unknown'])
          .describe(
            'Whether the host takes datagrams from them, to which no answer comes back; unknown where the service does not run on it',
          ),
        weaker: z.number().int().describe('Networks in use that reach the host: another version made them'),
      })
      .optional()
      .describe('What shuts session networks and the bridge of workers off from the host'),
    counts: z.object({
      tools_queued: z.number().int(),
      tools_running: z.number().int(),
      relics: z.number().int(),
      sessions: z.number().int(),
    }),
    pool: z
      .object({
        parked: z.number().int().describe('Containers that wait for a run'),
        wanted: z.number().int().describe('So many would be parked by what was asked for of late'),
        max: z.number().int().describe('So many are parked at most: CO_POOL_MAX'),
        memory_mb: z.number().describe('Their memory limits together'),
        hits: z.number().int().describe('Runs that found one, since the service started'),
        misses: z.number().int().describe('Runs that could have had one, and found none'),
      })
      .optional()
      .describe('Containers that were started ahead of need'),
    version: z.string(),
    uptime_seconds: z.number(),
  }),
)
export type Health = z.infer<typeof Health>

/** What probes without a key may learn. */
export const Liveness = named('Liveness', z.object({ status: z.enum(['ok', 'unavailable']) }))

export const ServiceInfo = named(
  'ServiceInfo',
  z.object({
    service: z.string(),
    version: z.string(),
    description: z.string(),
    links: z.record(z.string(), z.string()),
  }),
)
