import { type Caller, mayMint, type Scope } from '../domain/caller.ts'
import { timestamp } from '../domain/common.ts'
import { DEFAULT_TOKEN_SECONDS, MAX_TOKEN_SECONDS } from '../domain/session-token.ts'
import { AppError } from '../errors.ts'
import type { SessionTokens } from '../store/session-tokens.ts'
import type { KeyRing } from './key-ring.ts'
import { TOKEN_SCOPES } from './roles.ts'
import { credentialId, isCredential, makeCredential, TOKEN_PREFIX } from './secrets.ts'

export interface MintRequest {
  caller: Caller
  session: string
  /** Whose session it is, where that is not the caller's own. */
  owner?: string | undefined
  /** All that the caller's key has of what a token can have, where absent. */
  scopes?: readonly Scope[] | undefined
  /** 1 to 86,400; an hour where absent. */
  ttlSeconds?: number | undefined
}

export interface MintedToken {
  id: string
  /** `cos_<id>_<secret>`: told this once. */
  token: string
  scopes: Scope[]
  expires_at: string
}

/**
 * Tokens that services make for the agents they run: each is bound to one session, ends by itself, and
 * counts only while the key that made it does.
 */
export class SessionTokenDesk {
  readonly #tokens: SessionTokens
  readonly #keys: Pick<KeyRing, 'callerOf'>
  readonly #now: () => Date

  constructor(tokens: SessionTokens, keys: Pick<KeyRing, 'callerOf'>, now: () => Date = () => new Date()) {
    this.#tokens = tokens
    this.#keys = keys
    this.#now = now
  }

  /** Makes a token. 403 `forbidden` where the caller may not, or a scope is not the caller's to give. */
  async mint({
    caller,
    session,
    scopes,
    ttlSeconds = DEFAULT_TOKEN_SECONDS,
    ...request
  }: MintRequest): Promise<MintedToken> {
    const { keyId } = caller
    const owner = request.owner ?? caller.owner
    if (!mayMint(caller) || keyId === null || owner === null || !mayActFor(caller, owner))
      throw new AppError(
        'forbidden',
        'Session tokens are made by keys of the roles service and ops, for sessions in their reach',
      )
    if (!Number.isInteger(ttlSeconds) || ttlSeconds < 1 || ttlSeconds > MAX_TOKEN_SECONDS)
      throw new RangeError(`a token of ${ttlSeconds} seconds`)
    const own = TOKEN_SCOPES.filter((scope) => caller.scopes.has(scope))
    const beyond = scopes?.find((scope) => !own.includes(scope))
    if (beyond !== undefined) throw new AppError('forbidden', `A token of this key cannot have the scope "${beyond}"`)
    const granted = own.filter((scope) => scopes?.includes(scope) ?? true)
    const { id, text, sha256 } = makeCredential(TOKEN_PREFIX)
    const now = this.#now()
    const expires_at = timestamp(new Date(now.getTime() + ttlSeconds * 1000))
    await this.#tokens.insert({
      id,
      sha256,
      session_id: session,
      owner,
      key_id: keyId,
      scopes: granted.join(' '),
      created_at: timestamp(now),
      expires_at,
    })
    return { id, token: text, scopes: granted, expires_at }
  }

  /** Ends a token of a session, from the next call on; harmless where there is none. */
  async revoke(session: string, id: string): Promise<void> {
    const row = await this.#tokens.find(id)
    if (row?.session_id === session) await this.#tokens.revoke(id)
  }

  /** Whose token this is, as it comes behind "Bearer "; undefined unless it, and the key that made it, are valid now. */
  async authenticate(text: string): Promise<Caller | undefined> {
    const id = credentialId(text, TOKEN_PREFIX)
    const row = id === undefined ? undefined : await this.#tokens.find(id)
    if (!isCredential(text, row?.sha256) || row === undefined) return undefined
    if (Date.parse(row.expires_at) <= this.#now().getTime()) return undefined
    const minter = this.#keys.callerOf(row.key_id)
    if (minter === undefined || !mayMint(minter) || !mayActFor(minter, row.owner)) return undefined
    const given = new Set(row.scopes.split(' '))
    return {
      owner: row.owner,
      keyId: row.key_id,
      tokenId: row.id,
      role: 'agent',
      // What was taken from the key since is taken from its tokens, too.
      scopes: new Set(TOKEN_SCOPES.filter((scope) => given.has(scope) && minter.scopes.has(scope))),
      session: row.session_id,
      reach: 'own',
      limits: minter.limits,
    }
  }
}

function mayActFor({ owner, reach }: Caller, other: string): boolean {
  return reach === 'all' || owner === other
}
