import { createHash } from 'node:crypto'
import { AppError } from '../errors.ts'
import { failpoint } from '../failpoints.ts'
import type { IdempotencyKeys } from '../store/idempotency-keys.ts'
import { InFlight } from './in-flight.ts'

/** A call that makes something, and the key that its caller gave it. */
export interface KeyedCall {
  /** Whose key it is: what others call theirs is another one. */
  owner: string | null
  /** Absent: the call is made as often as it comes. */
  key: string | undefined
  /** Which call it is: the same key for another one is a mistake. */
  name: string
  body: unknown
}

export interface Making<T> {
  newId: () => string
  make: (id: string) => Promise<T>
  /** What was made under an id; undefined where nothing was. */
  find: (id: string) => Promise<T | undefined>
}

const KEY = /^[\x21-\x7e]{1,255}$/

/**
 * Makes what a keyed call asks for once, however often the call comes: while it is made whoever asks
 * waits for the same, and later gets the same. The key is claimed, with the id of what is to be made,
 * before anything is, so a crash between the two is settled by looking for that id.
 */
export class Idempotency {
  readonly #keys: IdempotencyKeys
  readonly #calls = new InFlight<unknown>()

  constructor(keys: IdempotencyKeys) {
    this.#keys = keys
  }

  /** `idempotency_key_reused` where the key belongs to another call or body. */
  async once<T>({ owner, key: given, name, body }: KeyedCall, { newId, make, find }: Making<T>): Promise<T> {
    if (given === undefined) return make(newId())
    if (!KEY.test(given)) {
      throw new AppError('validation_failed', 'Idempotency-Key: use 1 to 255 visible ASCII characters', {
        errors: [{ path: 'Idempotency-Key', message: 'use 1 to 255 visible ASCII characters' }],
      })
    }
    // A key has no space in it.
    const key = owner === null ? given : `${owner} ${given}`
    const digest = createHash('sha256')
      .update(`${name}\n${JSON.stringify(body)}`)
      .digest('hex')
    const claim = await this.#keys.claim({ key, digest, resource: newId() })
    failpoint('idempotency.claimed')
    if (claim.digest !== digest) {
      throw new AppError('idempotency_key_reused', `The key "${given}" was used for another request`, {
        hint: 'Use a new key for each request, and the same key only to repeat one.',
      })
    }
    const shared = this.#calls.share(key, async () => {
      const made = claim.fresh ? undefined : await find(claim.resource)
      return made ?? this.#make(key, claim.resource, { make, find })
    })
    return shared as Promise<T>
  }

  /** A call that failed before it made anything can be repeated with its key. */
  async #make<T>(key: string, id: string, { make, find }: Pick<Making<T>, 'make' | 'find'>): Promise<T> {
    try {
      return await make(id)
    } catch (error) {
      const made = await find(id).catch(() => error)
      if (made === undefined) await this.#keys.release(key)
      throw error
    }
  }
}
