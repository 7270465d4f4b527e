/** The file of keys (CO_KEYS_FILE): JSON, readable to its owner alone, and without a secret in it. */
import { type FileHandle, mkdir, open, realpath, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { z } from 'zod'
import { ROLES, SCOPES } from '../domain/caller.ts'
import { Name } from '../domain/common.ts'
import { ConfigError, messageOf } from '../errors.ts'
import { FileLock } from '../store/file-lock.ts'
import { syncFolder } from '../sync-folder.ts'
import { KeyLimits } from './key-limits.ts'
import { scopeBeyond } from './roles.ts'
import { CREDENTIAL_ID } from './secrets.ts'

const LOCK_WAIT_MS = 5_000
const BEYOND_OWNER = 0o077

const Moment = z.iso.datetime()

const KeyEntry = z
  .strictObject({
    id: z.string().regex(CREDENTIAL_ID, '12 lower-case letters and digits'),
    /** Whose things the key makes and sees; keys that follow one another share it. */
    owner: Name,
    role: z.enum(ROLES),
    /** Narrow the role. */
    scopes: z.array(z.enum(SCOPES)).min(1).optional(),
    limits: KeyLimits.optional(),
    created_at: Moment,
    expires_at: Moment.optional(),
    revoked_at: Moment.optional(),
    sha256: z.string().regex(/^[0-9a-f]{64}$/, '64 hex digits'),
  })
  .superRefine(({ role, scopes = [] }, context) => {
    const beyond = scopeBeyond(role, scopes)
    if (beyond === undefined) return
    context.addIssue({ code: 'custom', path: ['scopes'], message: `the role "${role}" does not have "${beyond}"` })
  })
export type KeyEntry = z.infer<typeof KeyEntry>

const KeysFile = z.strictObject({
  keys: z
    .array(KeyEntry)
    .refine((keys) => new Set(keys.map(({ id }) => id)).size === keys.length, 'an id stands there twice'),
})

export type KeyState = 'valid' | 'expired' | 'revoked'

export function stateOf({ revoked_at, expires_at }: KeyEntry, now: Date): KeyState {
  if (revoked_at !== undefined) return 'revoked'
  return expires_at !== undefined && Date.parse(expires_at) <= now.getTime() ? 'expired' : 'valid'
}

/** All keys of a file. A `ConfigError` where it cannot be used as it is; `undefined` where there is none. */
export async function readKeyFile(path: string): Promise<KeyEntry[] | undefined> {
  let file: FileHandle
  try {
    file = await open(path)
  } catch (error) {
    if (isMissing(error)) return undefined
    throw unusable(path, `cannot be read: ${messageOf(error)}`)
  }
  try {
    const { mode } = await file.stat()
    if ((mode & BEYOND_OWNER) !== 0)
      throw unusable(path, `others than its owner have rights on it (mode ${(mode & 0o777).toString(8)}); chmod 600 it`)
    return parse(path, await file.readFile('utf8'))
  } finally {
    await file.close()
  }
}

function parse(path: string, text: string): KeyEntry[] {
  let content: unknown
  try {
    content = JSON.parse(text)
  } catch {
    throw unusable(path, 'is not valid JSON')
  }
  const parsed = KeysFile.safeParse(content)
  if (parsed.success) return parsed.data.keys
  const [issue] = parsed.error.issues
  throw unusable(path, `${issue?.path.join('.')}: ${issue?.message}`)
}

/**
 * Changes the file: one command at a time, and there is the former file or the whole new one at any
 * moment. A file that is missing is made, and its folder. What `change` throws leaves all as it was.
 */
export async function changeKeyFile<T>(
  path: string,
  change: (keys: readonly KeyEntry[]) => { keys: readonly KeyEntry[]; result: T },
): Promise<T> {
  await makeFolder(dirname(path))
  // A link stays one: what is replaced is the file that it leads to.
  const target = await realpath(path).catch(() => path)
  const lock = FileLock.take(`${target}.lock`, LOCK_WAIT_MS)
  if (lock === undefined) throw unusable(path, 'another command is changing it')
  try {
    const { keys, result } = change((await readKeyFile(target)) ?? [])
    await replace(target, `${JSON.stringify({ keys }, null, 2)}\n`)
    return result
  } finally {
    lock.release()
  }
}

async function replace(path: string, text: string): Promise<void> {
  const fresh = `${path}.new`
  // What a command left that died here.
  await rm(fresh, { force: true })
  const file = await open(fresh, 'wx', 0o600)
  try {
    await keepOwner(path, file)
    await file.writeFile(text)
    await file.sync()
    await rename(fresh, path)
  } catch (error) {
    await rm(fresh, { force: true })
    throw error
  } finally {
    await file.close()
  }
  await syncFolder(dirname(path))
}

/** Root may change the file of the service's user: it stays readable to that user. */
async function keepOwner(path: string, file: FileHandle): Promise<void> {
  const present = await open(path).catch((error: unknown) => {
    if (isMissing(error)) return undefined
    throw error
  })
  if (present === undefined) return
  try {
    const [was, is] = await Promise.all([present.stat(), file.stat()])
    if (was.uid !== is.uid || was.gid !== is.gid) await file.chown(was.uid, was.gid)
  } finally {
    await present.close()
  }
}

/** One folder and not the way to it: a path that is mistyped leads nowhere. */
async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT'
}

function unusable(path: string, why: string): ConfigError {
  return new ConfigError(`CO_KEYS_FILE=${path}: ${why}`)
}
