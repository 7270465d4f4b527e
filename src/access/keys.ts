/** The life of a key: made, rotated, revoked. Each answers the keys of the file as they are afterwards. */
import type { Role, Scope } from '../domain/caller.ts'
import { timestamp } from '../domain/common.ts'
import { ConfigError } from '../errors.ts'
import { type KeyEntry, stateOf } from './key-file.ts'
import type { KeyLimits } from './key-limits.ts'
import { scopeBeyond } from './roles.ts'
import { KEY_PREFIX, makeCredential } from './secrets.ts'

export interface NewKey {
  owner: string
  role: Role
  scopes?: readonly Scope[] | undefined
  limits?: KeyLimits | undefined
  expiresAt?: Date | undefined
}

export interface Changed {
  keys: KeyEntry[]
  result: { entry: KeyEntry; text: string }
}

/** A further key; `text` is the key itself, which is nowhere else. A `ConfigError` where scopes widen the role. */
export function createKey(keys: readonly KeyEntry[], wanted: NewKey, now: Date): Changed {
  const { owner, role, scopes, limits, expiresAt } = wanted
  const beyond = scopeBeyond(role, scopes ?? [])
  if (beyond !== undefined) throw new ConfigError(`the role "${role}" does not have the scope "${beyond}"`)
  const { id, text, sha256 } = makeCredential(KEY_PREFIX)
  const entry: KeyEntry = {
    id,
    owner,
    role,
    ...(scopes === undefined ? {} : { scopes: [...new Set(scopes)] }),
    ...(limits === undefined || Object.keys(limits).length === 0 ? {} : { limits }),
    created_at: timestamp(now),
    ...(expiresAt === undefined ? {} : { expires_at: timestamp(expiresAt) }),
    sha256,
  }
  return { keys: [...keys, entry], result: { entry, text } }
}

/**
 * A key that takes the place of another: the same owner, role, scopes and limits, and as long a life
 * unless `expiresAt` says otherwise. The other one expires after the overlap, or when it would have.
 */
export function rotateKey(
  keys: readonly KeyEntry[],
  id: string,
  { overlapMs, expiresAt }: { overlapMs: number; expiresAt?: Date | undefined },
  now: Date,
): Changed {
  const old = keyOf(keys, id)
  if (stateOf(old, now) === 'revoked') throw new ConfigError(`key ${id} is revoked: create a new one`)
  const { owner, role, scopes, limits, created_at, expires_at } = old
  const life = expires_at === undefined ? undefined : Date.parse(expires_at) - Date.parse(created_at)
  const ends = expiresAt ?? (life === undefined ? undefined : new Date(now.getTime() + life))
  const overlapEnds = now.getTime() + overlapMs
  const lastMoment = expires_at === undefined ? overlapEnds : Math.min(Date.parse(expires_at), overlapEnds)
  const remaining = keys.map((key) => (key === old ? { ...key, expires_at: timestamp(new Date(lastMoment)) } : key))
  return createKey(remaining, { owner, role, scopes, limits, expiresAt: ends }, now)
}

/** Revoked from now on; to repeat it changes nothing. */
export function revokeKey(keys: readonly KeyEntry[], id: string, now: Date): { keys: KeyEntry[]; result: KeyEntry } {
  const old = keyOf(keys, id)
  const result = { ...old, revoked_at: old.revoked_at ?? timestamp(now) }
  return { keys: keys.map((key) => (key === old ? result : key)), result }
}

function keyOf(keys: readonly KeyEntry[], id: string): KeyEntry {
  const found = keys.find((key) => key.id === id)
  if (found === undefined) throw new ConfigError(`there is no key ${JSON.stringify(id)}`)
  return found
}
