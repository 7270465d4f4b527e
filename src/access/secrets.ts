/**
 * The form of what callers show: `co_<id>_<secret>` for keys, `cos_<id>_<secret>` for session tokens.
 * The id is public, 12 lower-case letters and digits; the secret is 256 random bits in base64url. What
 * is kept is the SHA-256 of the whole. A slow hash would add nothing: nobody can try 2^256 secrets.
 */
import { createHash, randomBytes, randomInt, timingSafeEqual } from 'node:crypto'

export const KEY_PREFIX = 'co'
export const TOKEN_PREFIX = 'cos'
export type Prefix = typeof KEY_PREFIX | typeof TOKEN_PREFIX

const ID_CHARACTERS = 'abcdefghijklmnopqrstuvwxyz0123456789'
const ID_LENGTH = 12
const SECRET_BYTES = 32

export const CREDENTIAL_ID = /^[a-z0-9]{12}$/
const CREDENTIAL = /^(cos?)_([a-z0-9]{12})_[A-Za-z0-9_-]{43}$/

export interface Credential {
  id: string
  /** All of it, to be shown once and kept by nobody here. */
  text: string
  /** In hex. */
  sha256: string
}

export function makeCredential(prefix: Prefix): Credential {
  const id = Array.from({ length: ID_LENGTH }, () => ID_CHARACTERS[randomInt(ID_CHARACTERS.length)]).join('')
  const text = `${prefix}_${id}_${randomBytes(SECRET_BYTES).toString('base64url')}`
  return { id, text, sha256: digestOf(text) }
}

/** The id of what has the form of a credential of this kind; undefined for all else. */
export function credentialId(text: string, prefix: Prefix): string | undefined {
  const [, found, id] = CREDENTIAL.exec(text) ?? []
  return found === prefix ? id : undefined
}

/** Belongs to nothing: what is compared with where an id is not known. */
const NOBODYS = digestOf(randomBytes(SECRET_BYTES).toString('hex'))

/**
 * Whether a credential is the one of this digest. It takes as long for each, and for an id that is not
 * known (`undefined`), so the time tells neither which ids there are nor how much of a secret is right.
 */
export function isCredential(text: string, sha256: string | undefined): boolean {
  const equal = timingSafeEqual(Buffer.from(digestOf(text), 'hex'), Buffer.from(sha256 ?? NOBODYS, 'hex'))
  return equal && sha256 !== undefined
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
