import { STATUS_CODES } from 'node:http'
import { z } from 'zod'
import { ERROR_CODES, POLICY_RULES } from '../errors.ts'
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
    rule: z.enum(POLICY_RULES).optional().describe('Of a policy_denied: what denied it'),
    request_id: z.string(),
    instance: z.string().optional(),
    hint: z.string().optional(),
    errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
    logs_tail: z.string().optional(),
    phase: z.enum(['running', 'ready']).optional().describe("What a worker's start waited for when it failed"),
    exit_code: z.number().int().optional(),
  }),
)
export type Problem = z.infer<typeof Problem>

export const PROBLEM_CONTENT_TYPE = 'application/problem+json'

interface ProblemResponse {
  description: string
  content: Record<typeof PROBLEM_CONTENT_TYPE, { schema: typeof Problem }>
}

/** Response schemas for the statuses that a route may fail with. */
export function problems<S extends number>(...statuses: S[]): Record<S, ProblemResponse> {
  const entries = statuses.map((status): [S, ProblemResponse] => [
    status,
    { description: STATUS_CODES[status] ?? 'Error', content: { [PROBLEM_CONTENT_TYPE]: { schema: Problem } } },
  ])
  return Object.fromEntries(entries) as Record<S, ProblemResponse>
}
