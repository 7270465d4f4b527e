import { z } from 'zod'
import {
  ContainerPath,
  Environment,
  Failure,
  named,
  page,
  pageQuery,
  queryBoolean,
  recordId,
  Timestamp,
} from './common.ts'
import { Command, ContainerUser } from './worker-spec.ts'

const STDIN_CHARACTERS = 768 * 1024

export const ExecRequest = named(
  'ExecRequest',
  z.strictObject({
    command: Command.describe('A string for a shell, or a program with its arguments'),
    working_dir: ContainerPath.default('/workspace'),
    user: ContainerUser.optional().describe("The worker's own where absent"),
    environment: Environment.default({}),
    stdin: z.string().max(STDIN_CHARACTERS).optional(),
    timeout_seconds: z.number().min(0.1).max(86_400).default(300),
    wait: z.boolean().default(true).describe('false: answer 202 at once'),
    stream: z.boolean().default(false).describe('Answer with Server-Sent Events, as Accept: text/event-stream does'),
    cancel_on_disconnect: z.boolean().default(false).describe('End the command when the caller goes away'),
  }),
)
export type ExecRequest = z.infer<typeof ExecRequest>

export const ExecStatus = z.enum(['running', 'completed', 'failed', 'timeout', 'cancelled'])
export type ExecStatus = z.infer<typeof ExecStatus>

export const Exec = named(
  'Exec',
  z.object({
    exec_id: z.string(),
    worker_id: z.string(),
    command: Command,
    status: ExecStatus,
    exit_code: z.number().int().nullable().describe("The engine's word; null while it runs, and where it is not known"),
    failure: Failure.nullable(),
    timed_out: z.boolean(),
    stdout: z.string(),
    stderr: z.string(),
    stdout_bytes: z.number().int(),
    stderr_bytes: z.number().int(),
    stdout_truncated: z.boolean(),
    stderr_truncated: z.boolean(),
    started_at: Timestamp,
    completed_at: Timestamp.nullable(),
    duration_ms: z.number().nullable(),
  }),
)
export type Exec = z.infer<typeof Exec>

export const ExecPage = page('ExecPage', Exec.omit({ stdout: true, stderr: true }))
export const ListExecs = z.strictObject({ status: ExecStatus.optional(), ...pageQuery(recordId('exec')) })
export const ReadExec = z.strictObject({ follow: queryBoolean.optional() })
