import { z } from 'zod'
import {
  Arguments,
  Argv,
  Artifact,
  ContainerPath,
  CustomLabels,
  Environment,
  Failure,
  Gpu,
  hasOneImageSource,
  InputFiles,
  imageSource,
  Name,
  named,
  ONE_IMAGE_SOURCE,
  ProfileName,
  page,
  pageQuery,
  recordId,
  SessionId,
  Timestamp,
  VolumeMount,
} from './common.ts'

const ToolLimits = named(
  'ToolLimits',
  z.strictObject({
    memory_mb: z.number().int().min(8).max(1_048_576).default(512),
    cpu_limit: z.number().min(0.01).max(1024).default(1).describe('In cores'),
    timeout_seconds: z
      .number()
      .min(0.1)
      .max(86_400)
      .default(300)
      .describe('From the start of the container to its end'),
    pids_limit: z.number().int().min(4).max(65_536).default(256),
  }),
)

export const ExecuteTool = named(
  'ExecuteTool',
  z
    .strictObject({
      tool_name: Name,
      session_id: SessionId,
      ...imageSource,
      command: Argv.optional(),
      entrypoint: Arguments.optional(),
      parameters: z
        .record(z.string().min(1).max(128), z.unknown())
        .default({})
        .describe('Each becomes PARAM_<NAME>; all of them are in TOOL_PARAMETERS as JSON'),
      environment: Environment.default({}),
      stdin: z.string().optional(),
      resource_limits: ToolLimits.prefault({}),
      volumes: z.array(VolumeMount).max(32).default([]),
      network_mode: z.enum(['none', 'session', 'bridge', 'egress']).default('none'),
      gpu: Gpu.optional(),
      input_files: InputFiles.default({}),
      output_paths: z
        .array(ContainerPath)
        .max(32)
        .default([])
        .describe('Files and folders kept as artifacts, beside what the tool writes to /output'),
      cleanup: z.boolean().default(true).describe('false keeps the ended container until its session is cleaned up'),
      wait: z.boolean().default(true),
      labels: CustomLabels.default({}),
      priority: z.number().int().min(0).max(9).default(5).describe('9 is the most urgent'),
      profile: ProfileName.optional(),
    })
    .refine(hasOneImageSource, ONE_IMAGE_SOURCE),
)
export type ExecuteTool = z.infer<typeof ExecuteTool>

export const ToolStatus = z.enum(['queued', 'preparing', 'running', 'completed', 'failed', 'timeout', 'cancelled'])
export type ToolStatus = z.infer<typeof ToolStatus>

const ENDED: ReadonlySet<ToolStatus> = new Set(['completed', 'failed', 'timeout', 'cancelled'])

export function hasEnded(status: ToolStatus): boolean {
  return ENDED.has(status)
}

export const ResourceUsage = named(
  'ResourceUsage',
  z.object({
    cpu_seconds: z.number().nullable(),
    memory_peak_mb: z.number().nullable(),
    network_rx_mb: z.number().nullable(),
    network_tx_mb: z.number().nullable(),
    disk_read_mb: z.number().nullable(),
    disk_write_mb: z.number().nullable(),
    samples: z.number().int(),
  }),
)
export type ResourceUsage = z.infer<typeof ResourceUsage>

const Milliseconds = z.number().nullable()

export const RunTimings = named(
  'RunTimings',
  z.object({
    queue_ms: Milliseconds,
    image_ms: Milliseconds,
    create_ms: Milliseconds,
    start_ms: Milliseconds,
    run_ms: Milliseconds,
    collect_ms: Milliseconds,
  }),
)
export type RunTimings = z.infer<typeof RunTimings>

/** A run without what it put out: what lists show. */
export const ToolRunSummary = named(
  'ToolRunSummary',
  z.object({
    execution_id: z.string(),
    tool_name: z.string(),
    session_id: z.string(),
    image: z.string().nullable(),
    image_id: z.string().nullable(),
    container_id: z.string().nullable(),
    status: ToolStatus,
    exit_code: z.number().int().nullable(),
    failure: Failure.nullable(),
    stdout_bytes: z.number().int().describe('All that the tool wrote, kept or not'),
    stderr_bytes: z.number().int(),
    stdout_truncated: z.boolean(),
    stderr_truncated: z.boolean(),
    resource_usage: ResourceUsage.nullable(),
    oom_seen: z.boolean().describe('The kernel killed a process of it for lack of memory, whatever became of the run'),
    queued_at: Timestamp,
    started_at: Timestamp.nullable(),
    completed_at: Timestamp.nullable(),
    duration_ms: Milliseconds,
    queue_position: z
      .number()
      .int()
      .nullable()
      .describe('While it waits: its turn comes after so many, its own among them, if no other session asks first'),
    timings: RunTimings,
    warm: z.boolean().describe('A parked container served it'),
    created_by: z.string().nullable(),
    labels: z.record(z.string(), z.string()),
  }),
)
export type ToolRunSummary = z.infer<typeof ToolRunSummary>

export const ToolRun = named(
  'ToolRun',
  ToolRunSummary.extend({
    result: z.unknown().describe('The JSON that the tool gave; null where it gave none'),
    result_source: z.enum(['file', 'stdout', 'stdout_last_line']).nullable(),
    stdout: z.string(),
    stderr: z.string(),
    artifacts: z.array(Artifact),
  }),
)
export type ToolRun = z.infer<typeof ToolRun>

export const ToolRunPage = page('ToolRunPage', ToolRunSummary)

export const ListTools = z.strictObject({
  session_id: SessionId.optional(),
  status: ToolStatus.optional(),
  tool_name: Name.optional(),
  ...pageQuery(recordId('exec')),
})

export const ArtifactPage = page('ArtifactPage', Artifact)
