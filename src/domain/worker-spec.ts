/** What a worker is asked to be. */
import { z } from 'zod'
import {
  Arguments,
  Argv,
  CustomLabels,
  Environment,
  Gpu,
  ImageReference,
  keyError,
  Name,
  named,
  ProfileName,
  PublishedPorts,
  SessionId,
  VolumeMount,
} from './common.ts'
import { MemorySize } from './memory-size.ts'

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
export const ExitMeaning = z.object({ meaning: z.string(), action: ExitAction })
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
  network: z.enum(['internal', 'session', 'none', 'bridge', 'egress']).default('internal'),
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

const SESSION_NEEDED = { message: 'the networks "session" and "egress" need a session_id', path: ['session_id'] }
const NETWORK_NEEDED = { message: 'a worker without a network publishes no ports', path: ['ports'] }

function hasItsSession({ network, session_id }: { network: string; session_id?: string | undefined }): boolean {
  return (network !== 'session' && network !== 'egress') || session_id !== undefined
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
