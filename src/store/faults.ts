/** What SQLite throws, told as what it means for who uses the store. */
import { AppError, messageOf } from '../errors.ts'

/** Primary result codes of SQLite that are no fault of a statement: https://www.sqlite.org/rescode.html */
const SQLITE_BUSY = 5
const SQLITE_IOERR = 10
const SQLITE_CORRUPT = 11
const SQLITE_FULL = 13
const SQLITE_NOTADB = 26
const RETRY_AFTER_SECONDS = 5
const FULL_HINT = 'Have the operator make room where CO_DATA_DIR is.'
const HINT = 'Have the operator look who else has store.sqlite open, and whether its disk is well.'

/** The file of a database does not hold together: nothing that is read from it can be relied on. */
export class CorruptStore extends AppError {
  constructor(message: string, cause?: unknown) {
    super('store_unavailable', `The store is corrupt: ${message}`, {
      cause,
      retryAfterSeconds: RETRY_AFTER_SECONDS,
      hint: 'The service ends; its next start sets the store aside and begins a new one.',
    })
    this.name = 'CorruptStore'
  }
}

/** Tells a disk that is full, a database that somebody else locks and one that is corrupt as what they are. */
export function told<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    const code = Number((error as { errcode?: unknown }).errcode) & 0xff
    const retry = { cause: error, retryAfterSeconds: RETRY_AFTER_SECONDS }
    if (code === SQLITE_FULL) {
      throw new AppError('disk_low', 'The store cannot be written: its disk is full', { ...retry, hint: FULL_HINT })
    }
    if (code === SQLITE_BUSY || code === SQLITE_IOERR) {
      throw new AppError('store_unavailable', `The store cannot be used: ${messageOf(error)}`, { ...retry, hint: HINT })
    }
    if (code === SQLITE_CORRUPT || code === SQLITE_NOTADB) throw new CorruptStore(messageOf(error), error)
    throw error
  }
}

/** A disk that did not take what was to be kept, told as what it is. */
export function diskFault(error: unknown): AppError {
  if (error instanceof AppError) return error
  const retry = { cause: error, retryAfterSeconds: RETRY_AFTER_SECONDS }
  if (['ENOSPC', 'EDQUOT'].includes(String((error as NodeJS.ErrnoException).code))) {
    return new AppError('disk_low', 'The store cannot be written: its disk is full', { ...retry, hint: FULL_HINT })
  }
  return new AppError('store_unavailable', `The store cannot be used: ${messageOf(error)}`, { ...retry, hint: HINT })
}
