import { z } from 'zod'
import { named, Timestamp } from './common.ts'

/** One entry of a folder of a worker. */
export const WorkerFile = named(
  'WorkerFile',
  z.object({
    name: z.string(),
    path: z.string(),
    type: z.enum(['file', 'directory', 'symlink', 'other']),
    bytes: z.number().int(),
    modified_at: Timestamp,
  }),
)
export type WorkerFile = z.infer<typeof WorkerFile>

export const WorkerFolder = named('WorkerFolder', z.object({ path: z.string(), items: z.array(WorkerFile) }))
export type WorkerFolder = z.infer<typeof WorkerFolder>

/** What a write came to. */
export const WrittenFiles = named(
  'WrittenFiles',
  z.object({ path: z.string(), files: z.number().int(), bytes: z.number().int() }),
)
export type WrittenFiles = z.infer<typeof WrittenFiles>

export const ListFiles = z.strictObject({ path: z.string().max(1024).default('/workspace') })

export const WriteFile = z.strictObject({
  mode: z
    .string()
    .regex(/^0?[0-7]{3}$/, 'use three octal digits, such as 644')
    .default('644')
    .describe('Of a single file'),
})
