import { z } from 'zod'
import {
  Arguments,
  Argv,
  CustomLabels,
  Environment,
  Failure,
  Gpu,
  hasOneImageSource,
  imageSource,
  Name,
  named,
  ONE_IMAGE_SOURCE,
  ProfileName,
  PublishedPorts,
  page,
  pageQuery,
  recordId,
  SessionId,
  Timestamp,
  VolumeMount,
} from './common.ts'

const Port = z.number().int().min(1).max(65_535)

const RelicLimits = named(
  'RelicLimits',
  z.strictObject({
    memory_mb: z.number().int().min(8).max(1_048_576).default(1024),
    cpu_limit: z.number().min(0.01).max(1024).default(2).describe("In cores, at most those of the engine's host"),
    timeout_seconds: z
      .number()
      .min(0.1)
      .max(86_400)
      .default(600)
      .describe('For the whole start: pull, build, start, health'),
    pids_limit: z.number().int().min(4).max(65_536).default(512),
  }),
)

export const StartRelic = named(
  'StartRelic',
  z
    .strictObject({
      relic_name: Name,
      session_id: SessionId,
      ...imageSource,
      command: Argv.optional(),
      entrypoint: Arguments.optional(),
      environment: Environment.default({}),
      create_private_network: z
        .boolean()
        .default(true)
        .describe("Makes the session's network where it is missing; false refuses to start without one"),
      health_check_endpoint: z
        .string()
        .max(1024)
        // Without what some readers of URLs take for the beginning of a host, or for the end of a path.
        .regex(/^\/(?!\/)[!-"$-?A-[\]-~]*$/, 'use a path such as "/health"')
        .nullable()
        .default('/health')
        .describe('Path that answers 2xx when the relic is ready; null: healthy once it runs'),
      health_check_timeout_seconds: z.number().min(0.1).max(86_400).default(60),
      port: Port.default(8000),
      ports: PublishedPorts,
      volumes: z.array(VolumeMount).max(32).default([]),
      resource_limits: RelicLimits.prefault({}),
      restart_policy: z.strictObject({ max_retries: z.number().int().min(0).max(100).default(3) }).prefault({}),
      gpu: Gpu.optional(),
      labels: CustomLabels.default({}),
      profile: ProfileName.optional(),
    })
    .refine(hasOneImageSource, ONE_IMAGE_SOURCE),
)
export type StartRelic = z.infer<typeof StartRelic>

export const RelicStatus = z.enum(['preparing', 'starting', 'healthy', 'unhealthy', 'stopped', 'failed'])
export type RelicStatus = z.infer<typeof RelicStatus>

export const Relic = named(
  'Relic',
  z.object({
    relic_id: z.string(),
    relic_name: z.string(),
    session_id: z.string(),
    status: RelicStatus,
    failure: Failure.nullable(),
    internal_url: z.string().nullable().describe('For containers of the same session'),
    network: z.object({ id: z.string(), name: z.string() }).nullable(),
    container_id: z.string().nullable(),
    container_name: z.string(),
    image: z.string().nullable(),
    image_id: z.string().nullable(),
    port: z.number().int(),
    ports: z
      .record(z.string(), z.number().int())
      .describe('Published container ports, and where they are on 127.0.0.1'),
    restarts: z.number().int(),
    created_at: Timestamp,
    started_at: Timestamp.nullable(),
    healthy_at: Timestamp.nullable(),
    stopped_at: Timestamp.nullable(),
    labels: z.record(z.string(), z.string()),
  }),
)
export type Relic = z.infer<typeof Relic>

export const RelicPage = page('RelicPage', Relic)

export const ListRelics = z.strictObject({
  session_id: SessionId.optional(),
  status: RelicStatus.optional(),
  relic_name: Name.optional(),
  ...pageQuery(recordId('relic')),
})

export const StopRelic = z.strictObject({ timeout_seconds: z.number().int().min(0).max(3600).default(10) })

export const Probe = named(
  'Probe',
  z.object({
    at: Timestamp,
    healthy: z.boolean(),
    status_code: z.number().int().nullable(),
    error: z.string().nullable(),
    duration_ms: z.number(),
  }),
)
export type Probe = z.infer<typeof Probe>

export const RelicHealth = named(
  'RelicHealth',
  z.object({
    relic_id: z.string(),
    status: RelicStatus,
    healthy: z.boolean(),
    probes: z.array(Probe).describe('The last 10, newest last'),
  }),
)
export type RelicHealth = z.infer<typeof RelicHealth>
