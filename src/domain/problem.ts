import { z } from 'zod'
import { ERROR_CODES } from '../errors.ts'
import { named } from './common.ts'

/** RFC 9457 problem details, the body of every error. */
export const Problem = named(
  'Problem',
  z.object({
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    detail: z.string(),
    code: z.enum(ERROR_CODES),
    request_id: z.string(),
    instance: z.string().optional(),
    hint: z.string().optional(),
    errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
    logs_tail: z.string().optional(),
  }),
)
export type Problem = z.infer<typeof Problem>
