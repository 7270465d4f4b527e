/**
 * One line of the audit log: JSON in ASCII, `{"seq":…,"at":…,"prev":…,<fields>,"hash":…}`. `hash` is the
 * SHA-256, in hex, of the very bytes before `,"hash":` and a closing brace: nothing has to be written
 * again in some canonical form to check it, and no byte of a line can change unseen. `prev` is the hash
 * of the line before.
 */
import { createHash } from 'node:crypto'

/** A decision about a call, or how a call that was allowed has ended. Never a body, a query or a secret. */
export interface AuditEntry {
  /** Of the key that was shown; null without one. */
  key_id: string | null
  /** Of the session token that was shown. */
  token_id: string | null
  owner: string | null
  role: string | null
  /** The one that the session token is bound to; null with a key. */
  session: string | null
  /** The operation's name (operationId). */
  route: string
  method: string
  /** The path, without a query. */
  resource: string
  decision: 'allow' | 'deny'
  /** What decided: `key`, `role`, `ownership`, `policy_denied:<rule>`, `rate_limit`, `quota`; null where nothing had to. */
  rule: string | null
  /** HTTP status of the answer, in the line that tells the outcome; null in the line before it. */
  status: number | null
  request_id: string
}

/** What the log tells about itself when it is opened. */
export interface MendedEntry {
  mended: { file: string; cut_bytes?: number; unreadable_from_line?: number }
}

/** Where the chain is: number and hash of a line. */
export interface Link {
  seq: number
  hash: string
}

/** Before the first line. */
export const GENESIS: Link = { seq: 0, hash: '0'.repeat(64) }

/** In characters, each of which takes at most six bytes. */
const MAX_CHARACTERS: Record<Exclude<keyof AuditEntry, 'decision' | 'status'>, number> = {
  key_id: 64,
  token_id: 64,
  owner: 128,
  role: 32,
  session: 128,
  route: 128,
  method: 16,
  resource: 1024,
  rule: 256,
  request_id: 128,
}

/** More than the longest line takes. */
export const MAX_LINE_BYTES = 64 * 1024

/** The entry with its own fields alone, in their order, and no string beyond its bound. */
export function bounded(entry: AuditEntry): AuditEntry {
  const cut = <T extends string | null>(field: keyof typeof MAX_CHARACTERS, value: T) =>
    clip(value, MAX_CHARACTERS[field])
  return {
    key_id: cut('key_id', entry.key_id),
    token_id: cut('token_id', entry.token_id),
    owner: cut('owner', entry.owner),
    role: cut('role', entry.role),
    session: cut('session', entry.session),
    route: cut('route', entry.route),
    method: cut('method', entry.method),
    resource: cut('resource', entry.resource),
    decision: entry.decision,
    rule: cut('rule', entry.rule),
    status: entry.status,
    request_id: cut('request_id', entry.request_id),
  }
}

function clip<T extends string | null>(value: T, characters: number): T {
  return value === null || value.length <= characters ? value : (`${value.slice(0, characters - 1)}…` as T)
}

export function encodeLine(fields: AuditEntry | MendedEntry, at: string, before: Link): { text: string; link: Link } {
  const seq = before.seq + 1
  const body = ascii(JSON.stringify({ seq, at, prev: before.hash, ...fields }))
  const hash = createHash('sha256').update(body).digest('hex')
  return { text: `${body.slice(0, -1)},"hash":"${hash}"}\n`, link: { seq, hash } }
}

/** What JSON leaves as it is could still steer a terminal, or turn text around. */
function ascii(json: string): string {
  return json.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

const SUFFIX = /^,"hash":"([0-9a-f]{64})"\}$/
const SUFFIX_BYTES = ',"hash":"'.length + 64 + '"}'.length

/** A line that continues a chain, as its link; or why it does not. `before` undefined: it may continue anything. */
export function checkLine(line: Buffer, before: (Pick<Link, 'hash'> & Partial<Link>) | undefined): Link | string {
  if (line.length > MAX_LINE_BYTES) return 'it is longer than any line'
  const [, hash] = SUFFIX.exec(line.subarray(-SUFFIX_BYTES).toString('latin1')) ?? []
  if (hash === undefined) return 'it does not end with a hash'
  const body = createHash('sha256').update(line.subarray(0, -SUFFIX_BYTES)).update('}')
  if (body.digest('hex') !== hash) return 'its hash is not that of its content'
  const content = parsed(line)
  if (content === undefined) return 'it is not an entry'
  if (before === undefined) return { seq: content.seq, hash }
  if (before.seq !== undefined && content.seq !== before.seq + 1)
    return `it is number ${content.seq}, where ${before.seq + 1} is due`
  return content.prev === before.hash ? { seq: content.seq, hash } : 'it does not continue the line before it'
}

function parsed(line: Buffer): { seq: number; prev: string } | undefined {
  try {
    const { seq, prev } = JSON.parse(line.toString('latin1'))
    return Number.isSafeInteger(seq) && typeof prev === 'string' ? { seq, prev } : undefined
  } catch {
    return undefined
  }
}
