import { stat } from 'node:fs/promises'
import type { Caller } from '../domain/caller.ts'
import { ConfigError, messageOf } from '../errors.ts'
import { type KeyEntry, readKeyFile, stateOf } from './key-file.ts'
import { callerLimits } from './key-limits.ts'
import { reachOf, scopesOf } from './roles.ts'
import { credentialId, isCredential, KEY_PREFIX } from './secrets.ts'

/** Twice this, and the time to read the file, is within the second in which a revocation counts. */
const POLL_MS = 250

interface Log {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export interface KeyRingOptions {
  log: Log
  pollMs?: number
  now?: () => Date
}

/** What a look at the file found: a mark that differs after each change; `undefined` where there is none. */
type Look = string | undefined

/**
 * The keys that count now. The file is looked at several times a second, so that a change (of a command,
 * an editor, a tool that replaces the file) counts within one. A file that cannot be used leaves the
 * keys as they were and is told in the log each time it changes; where the file is gone, at two looks
 * in a row, no key counts until it is back: some editors take it away for a moment when they save.
 */
export class KeyRing {
  readonly #path: string
  readonly #log: Log
  readonly #now: () => Date
  readonly #timer: NodeJS.Timeout
  #keys: ReadonlyMap<string, KeyEntry>
  #seen: Look
  #missed = false
  #looking: Promise<void> | undefined

  private constructor(path: string, seen: Look, keys: readonly KeyEntry[], options: KeyRingOptions) {
    this.#path = path
    this.#seen = seen
    this.#keys = byId(keys)
    this.#log = options.log
    this.#now = options.now ?? (() => new Date())
    this.#timer = setInterval(() => void this.look(), options.pollMs ?? POLL_MS).unref()
  }

  /** Reads the file and follows it until `close`. A `ConfigError` where it is missing or cannot be used. */
  static async open(path: string, options: KeyRingOptions): Promise<KeyRing> {
    const seen = await lookAt(path)
    const keys = await readKeyFile(path)
    if (keys === undefined)
      throw new ConfigError(`CO_KEYS_FILE=${path}: there is no such file; "npm run keys -- create" makes it`)
    return new KeyRing(path, seen, keys, options)
  }

  /** A `ConfigError` where nobody could call: no key is valid now. */
  requireUsableKey(): void {
    for (const key of this.#keys.values()) if (stateOf(key, this.#now()) === 'valid') return
    throw new ConfigError(
      `CO_KEYS_FILE=${this.#path}: no key in it is valid; make one with "npm run keys -- create --role ops --owner NAME"`,
    )
  }

  /** Whose key this is, `co_<id>_<secret>` as it comes behind "Bearer "; undefined unless it is valid now. */
  authenticate(text: string): Caller | undefined {
    const id = credentialId(text, KEY_PREFIX)
    const key = id === undefined ? undefined : this.#keys.get(id)
    return isCredential(text, key?.sha256) && key !== undefined ? this.#callerOf(key) : undefined
  }

  /** Who calls by the key of this id; undefined unless it is valid now. */
  callerOf(keyId: string): Caller | undefined {
    const key = this.#keys.get(keyId)
    return key === undefined ? undefined : this.#callerOf(key)
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #callerOf(key: KeyEntry): Caller | undefined {
    if (stateOf(key, this.#now()) !== 'valid') return undefined
    return {
      owner: key.owner,
      keyId: key.id,
      role: key.role,
      scopes: new Set(key.scopes ?? scopesOf(key.role)),
      reach: reachOf(key.role),
      limits: callerLimits(key.limits ?? {}),
    }
  }

  /** Looks whether the file has changed, and reads it then; looks at once share one. */
  look(): Promise<void> {
    this.#looking ??= this.#look()
      .catch((error: unknown) => {
        this.#log.error({ event: 'keys.unreadable', path: this.#path, err: error }, 'the keys file was not looked at')
      })
      .finally(() => {
        this.#looking = undefined
      })
    return this.#looking
  }

  async #look(): Promise<void> {
    const seen = await lookAt(this.#path)
    if (seen === undefined) return this.#lose()
    this.#missed = false
    if (seen === this.#seen) return
    this.#seen = seen
    try {
      const keys = await readKeyFile(this.#path)
      // Gone since the look: the next one tells.
      if (keys === undefined) return
      this.#keys = byId(keys)
      this.#log.info({ event: 'keys.read', path: this.#path, keys: keys.length }, 'keys file read')
    } catch (error) {
      this.#log.error(
        { event: 'keys.broken', path: this.#path, reason: messageOf(error) },
        'the keys file cannot be used: the keys stay as they were, and no revocation counts',
      )
    }
  }

  #lose(): void {
    if (this.#missed && this.#seen !== undefined) {
      this.#seen = undefined
      this.#keys = new Map()
      this.#log.error({ event: 'keys.gone', path: this.#path }, 'the keys file is gone: no key counts until it is back')
    }
    this.#missed = true
  }
}

function byId(keys: readonly KeyEntry[]): ReadonlyMap<string, KeyEntry> {
  return new Map(keys.map((key) => [key.id, key]))
}

async function lookAt(path: string): Promise<Look> {
  try {
    const { dev, ino, size, mode, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
    return [dev, ino, size, mode, mtimeNs, ctimeNs].join(' ')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    return `cannot be looked at: ${messageOf(error)}`
  }
}
