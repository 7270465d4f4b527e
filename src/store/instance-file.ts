/**
 * The instance's UUID in a file of its own: containers bear it, so a store that is lost must not take
 * it along.
 */
import { open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** Undefined where there is no such file, or no UUID in it. */
export async function readInstance(folder: string): Promise<string | undefined> {
  const text = await readFile(join(folder, 'instance'), 'utf8').catch(() => '')
  const id = text.trim()
  return UUID.test(id) ? id : undefined
}

/** There is the former file or the whole new one at any moment. */
export async function writeInstance(folder: string, id: string): Promise<void> {
  const path = join(folder, 'instance')
  const file = await open(`${path}.new`, 'w', 0o600)
  try {
    await file.writeFile(`${id}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(`${path}.new`, path)
}
