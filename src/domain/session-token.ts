import { z } from 'zod'
import { SCOPES } from './caller.ts'
import { named, Timestamp } from './common.ts'

export const MAX_TOKEN_SECONDS = 86_400
export const DEFAULT_TOKEN_SECONDS = 3_600

const Scope = z.enum(SCOPES)

export const MakeSessionToken = named(
  'MakeSessionToken',
  z.strictObject({
    ttl_seconds: z.number().int().min(1).max(MAX_TOKEN_SECONDS).default(DEFAULT_TOKEN_SECONDS),
    scopes: z
      .array(Scope)
      .min(1)
      .max(SCOPES.length)
      .optional()
      .describe('What the token may do; all that its maker may give where absent'),
  }),
)

export const SessionToken = named(
  'SessionToken',
  z.object({
    id: z.string(),
    token: z.string().describe('Told this once: send it as "Authorization: Bearer <token>"'),
    session_id: z.string(),
    scopes: z.array(Scope),
    expires_at: Timestamp,
  }),
)
