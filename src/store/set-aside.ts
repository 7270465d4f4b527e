import { rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { timestamp } from '../domain/common.ts'

/** What SQLite has beside a database: found again by the database's own name. */
const SUFFIXES = ['', '-wal', '-shm']

/** Renames a database, with all that belongs to it, for somebody to look at; answers its new path. */
export async function setAside(path: string): Promise<string> {
  const kept = join(dirname(path), `store.corrupt-${timestamp().replaceAll(':', '-')}.sqlite`)
  for (const suffix of SUFFIXES) {
    await rename(path + suffix, kept + suffix).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error
    })
  }
  return kept
}
