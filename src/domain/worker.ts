import { z } from 'zod'
import {
  Arguments,
  Argv,
  ContainerPath,
  CustomLabels,
  Environment,
  Failure,
  Gpu,
  ImageReference,
  keyError,
  Name,
  named,
  PageQuery,
  ProfileName,
  PublishedPorts,
  SessionId,
  Timestamp,
  VolumeMount,
} from './common.ts'
import { MemorySize } from './memory-size.ts'
import { ContainerStats } from './stats.ts'

const WorkerId = Name.describe("The caller's name for the worker, unique in this installation")

const HostPath = z
  .string()
  .max(4096)
  .regex(/^\/[^\0]*$/, 'use an absolute path of the host')

const Workspace = named(
  'Workspace',
  z.union(
    [
      z.strictObject({ host_path: HostPath.describe('A folder under an allowed root') }),
      z.strictObject({ volume: Name.describe('A named volume of the session, or of the worker where it has none') }),
      z.strictObject({
        git_worktree: z.strictObject({
          path: HostPath.describe('Folder of the worktree'),
          repository: HostPath.describe('The main repository: its folder, or its .git'),
        }),
      }),
    ],
    'give exactly one of host_path (absolute), volume (a name) and git_worktree {path, repository}',
  ),
)
export type Workspace = z.infer<typeof Workspace>

/** A command as a string is for a shell; as an array it is run as it stands. */
export const Command = z.union(
  [
    z
      .string()
      .min(1)
      .max(131_071)
      .regex(/^[^\0]*$/, 'NUL is not allowed'),
    Argv,
  ],
  'give a string for a shell, or a program and its arguments as strings',
)
export type Command = z.infer<typeof Command>

/** `root`, `1000`, `1000:1000`, `worker`. */
export const ContainerUser = z
  .string()
  .max(65)
  .regex(
    /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,31})?$/,
    'use a user or user:group, by name or number',
  )

const ExitAction = z.enum(['restart', 'fail', 'complete', 'stop'])
const ExitMeaning = z.object({ meaning: z.string(), action: ExitAction })
export type ExitMeaning = z.infer<typeof ExitMeaning>

const ExitCodes = z
  .record(
    z.string().regex(/^(?:0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])$/, 'use an exit code from 0 to 255'),
    z.strictObject({ meaning: z.string().min(1).max(200), action: ExitAction }),
    { error: keyError },
  )
  .describe('By exit code; those that are not named keep their defaults')

const RefreshPolicy = z.strictObject({
  max_age_hours: z.number().positive().max(87_600).default(72),
  disk_percent: z.number().min(1).max(100).default(80),
  memory_percent: z.number().min(1).max(100).default(90),
  health_failures: z.number().int().min(1).max(100).default(3),
  action: z
    .enum(['report', 'refresh'])
    .default('report')
    .describe('Only tell it in health, or refresh the worker when no command runs in it'),
})

/** All that a worker is asked to be, beside its name. */
const workerFields = {
  session_id: SessionId.optional(),
  task_id: z
    .string()
    .min(1)
    .max(256)
    .regex(/^[\x20-\x7e]*$/, 'use printable ASCII')
    .optional(),
  image: ImageReference,
  workspace: Workspace.optional().describe('Mounted at /workspace; an empty one of its own where absent'),
  command: Command.optional().describe("The image's own where absent; it runs with a stdin that stays open"),
  entrypoint: Arguments.optional(),
  environment: Environment.default({}),
  ports: PublishedPorts,
  memory_limit: MemorySize.default('4g'),
  cpu_limit: z.number().min(0.01).max(1024).default(2).describe("In cores, at most those of the engine's host"),
  pids_limit: z.number().int().min(16).max(65_536).default(1000),
  nofile: z
    .strictObject({
      soft: z.number().int().min(64).max(1_048_576).default(1024),
      hard: z.number().int().min(64).max(1_048_576).default(2048),
    })
    .refine(({ soft, hard }) => soft <= hard, 'soft must not exceed hard')
    .prefault({}),
  network: z.enum(['internal', 'session', 'none', 'bridge']).default('internal'),
  readonly_root: z.boolean().default(true),
  user: ContainerUser.optional().describe(
    "Absent: the owner of the workspace's host folder, else the image's user where that is not root, else 1000:1000",
  ),
  volumes: z.array(VolumeMount).max(32).default([]),
  credentials: z.array(Name).max(16).default([]).describe('Names of credential sets that the operator configured'),
  gpu: Gpu.optional(),
  healthcheck: z
    .strictObject({
      command: Command,
      interval_seconds: z.number().min(1).max(86_400).default(60),
      timeout_seconds: z.number().min(1).max(3600).default(10),
      retries: z.number().int().min(1).max(100).default(3),
    })
    .optional(),
  ready: z
    .strictObject({ command: Command, timeout_seconds: z.number().min(0.1).max(3600).default(120) })
    .optional()
    .describe('Run again and again until it succeeds'),
  keep_on_failure: z.boolean().default(false).describe('Keep the stopped container of a start that failed'),
  restart_policy: z.strictObject({ max_retries: z.number().int().min(0).max(100).default(3) }).prefault({}),
  refresh_policy: RefreshPolicy.prefault({}),
  exit_codes: ExitCodes.default({}),
  labels: CustomLabels.default({}),
  profile: ProfileName.optional(),
}

const SESSION_NEEDED = { message: 'the network "session" needs a session_id', path: ['session_id'] }
const NETWORK_NEEDED = { message: 'a worker without a network publishes no ports', path: ['ports'] }

function hasItsSession({ network, session_id }: { network: string; session_id?: string | undefined }): boolean {
  return network !== 'session' || session_id !== undefined
}

function hasItsNetwork({ network, ports }: { network: string; ports: Record<string, number> }): boolean {
  return network !== 'none' || Object.keys(ports).length === 0
}

export const StartWorker = named(
  'StartWorker',
  z
    .strictObject({ worker_id: WorkerId, ...workerFields })
    .refine(hasItsSession, SESSION_NEEDED)
    .refine(hasItsNetwork, NETWORK_NEEDED),
)
export type StartWorker = z.infer<typeof StartWorker>

/** The same body; the path names the worker, and the body may. */
export const EnsureWorker = named(
  'EnsureWorker',
  z
    .strictObject({ worker_id: WorkerId.optional(), ...workerFields })
    .refine(hasItsSession, SESSION_NEEDED)
    .refine(hasItsNetwork, NETWORK_NEEDED),
)

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
  ...PageQuery,
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
