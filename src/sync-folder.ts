import { open } from 'node:fs/promises'

/** What was named anew in a folder lasts beyond a loss of power. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path)
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
