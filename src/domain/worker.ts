/** What callers see of workers, and the calls on one that there is. */
import { z } from 'zod'
import { ContainerPath, Failure, named, pageQuery, recordId, SessionId, Timestamp } from './common.ts'
import { ContainerStats } from './stats.ts'
import { ExitMeaning } from './worker-spec.ts'

/** A worker's name in a path: what was never one is simply not found. */
export const WorkerById = z.strictObject({ worker_id: z.string().max(128) })

export const WorkerStatus = z.enum(['preparing', 'starting', 'running', 'paused', 'stopped', 'completed', 'failed'])
export type WorkerStatus = z.infer<typeof WorkerStatus>

const WorkspaceView = z.object({
  kind: z.enum(['host_path', 'volume', 'git_worktree', 'none']),
  source: z.string().nullable(),
  path: ContainerPath,
})

export const Worker = named(
  'Worker',
  z.object({
    worker_id: z.string(),
    session_id: z.string().nullable(),
    task_id: z.string().nullable(),
    status: WorkerStatus,
    failure: Failure.nullable(),
    exit_code: z.number().int().nullable(),
    exit_meaning: ExitMeaning.nullable().describe('What the exit code means, and what follows from it'),
    image: z.string(),
    image_id: z.string().nullable(),
    container_id: z.string().nullable(),
    container_name: z.string().nullable(),
    workspace: WorkspaceView,
    user: z.string().nullable().describe('Number of the user and group that the worker runs as'),
    home: z.string().nullable(),
    network: z.object({ mode: z.string(), id: z.string().nullable(), name: z.string().nullable() }),
    ports: z.record(z.string(), z.number().int()),
    memory_limit_bytes: z.number().int(),
    cpu_limit: z.number(),
    pids_limit: z.number().int(),
    credentials: z.array(z.string()),
    restarts: z.number().int().describe('Since it was last started by a caller'),
    refreshes: z.number().int(),
    created_at: Timestamp,
    started_at: Timestamp.nullable(),
    ready_at: Timestamp.nullable(),
    stopped_at: Timestamp.nullable(),
    refreshed_at: Timestamp.nullable(),
    labels: z.record(z.string(), z.string()),
  }),
)
export type Worker = z.infer<typeof Worker>

export const WorkerCapacity = named(
  'WorkerCapacity',
  z.object({
    running: z.number().int(),
    memory_limit_bytes: z.number().int().describe('Sum of the limits of those that run'),
    cpu_limit: z.number().describe('Sum of the limits of those that run, in cores'),
    host: z.object({ memory_bytes: z.number().int(), cores: z.number().int() }),
    allowed: z
      .object({
        workers: z.number().int().nullable(),
        memory_bytes: z.number().int().nullable(),
        cpus: z.number().nullable(),
      })
      .describe("The operator's bounds; null where there is none"),
  }),
)
export type WorkerCapacity = z.infer<typeof WorkerCapacity>

export const WorkerPage = named(
  'WorkerPage',
  z.object({
    items: z.array(Worker),
    next_cursor: z.string().nullable(),
    running: z.number().int(),
    capacity: WorkerCapacity,
  }),
)

export const ListWorkers = z.strictObject({
  session_id: SessionId.optional(),
  status: WorkerStatus.optional(),
  ...pageQuery(recordId('worker')),
})

const Grace = z.number().int().min(0).max(3600).default(30)

export const StopWorker = z.strictObject({ timeout_seconds: Grace })

export const RefreshWorker = named(
  'RefreshWorker',
  z.strictObject({
    timeout_seconds: Grace.describe('Between asking the process to end and killing it'),
    when_busy: z
      .enum(['wait', 'refuse'])
      .default('wait')
      .describe('While a command runs in it: wait for its end, or answer 409'),
    wait_seconds: z.number().min(0).max(86_400).default(300).describe('How long to wait for commands'),
  }),
)
export type RefreshWorker = z.infer<typeof RefreshWorker>

const HealthReason = z.object({
  code: z.enum(['not_running', 'age', 'disk', 'memory', 'healthcheck']),
  message: z.string(),
})
export type HealthReason = z.infer<typeof HealthReason>

export const WorkerHealth = named(
  'WorkerHealth',
  z.object({
    worker_id: z.string(),
    status: WorkerStatus,
    healthy: z.boolean(),
    reasons: z.array(HealthReason).describe('Why it is not healthy; empty where it is'),
    age_hours: z.number().nullable().describe('Of its container'),
    disk_percent: z.number().nullable().describe("Of the workspace's file system"),
    memory_percent: z.number().nullable(),
    healthcheck: z
      .object({
        status: z.enum(['starting', 'healthy', 'unhealthy']),
        failing_streak: z.number().int(),
        checks: z.array(z.object({ at: Timestamp, exit_code: z.number().int(), output: z.string() })),
      })
      .nullable()
      .describe('What the engine found; null where no health check was asked for'),
    checked_at: Timestamp,
  }),
)
export type WorkerHealth = z.infer<typeof WorkerHealth>

const DiskUse = z.object({
  total_mb: z.number(),
  used_mb: z.number(),
  available_mb: z.number(),
  percent: z.number(),
})
export type DiskUse = z.infer<typeof DiskUse>

export const WorkerStats = named(
  'WorkerStats',
  ContainerStats.extend({
    age_hours: z.number().describe('Of its container'),
    disk: DiskUse.nullable().describe("The workspace's file system; null while the worker does not run"),
  }),
)
export type WorkerStats = z.infer<typeof WorkerStats>

export const SnapshotWorker = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z0-9][a-z0-9_.-]{0,62}$/, 'use 1 to 63 lower-case letters, digits, "_", "." or "-"')
    .optional()
    .describe('Tag of the image; a new one where absent'),
})

export const Snapshot = named(
  'Snapshot',
  z.object({
    worker_id: z.string(),
    image: z.string().describe('What another worker names as its image'),
    image_id: z.string(),
    created_at: Timestamp,
  }),
)
export type Snapshot = z.infer<typeof Snapshot>
