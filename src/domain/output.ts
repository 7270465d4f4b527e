import { z } from 'zod'
import { queryBoolean, queryInteger } from './common.ts'

export const ReadLogs = z.strictObject({
  stream: z.enum(['stdout', 'stderr', 'all']).default('all'),
  tail: queryInteger({ min: 0, max: 1_000_000 }).optional().describe('Last lines only'),
  follow: queryBoolean.optional().describe('true: Server-Sent Events until the end'),
})
export type ReadLogs = z.infer<typeof ReadLogs>
