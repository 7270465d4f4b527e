import { access } from 'node:fs/promises'

/** Whether this process may use a path of its host, `mode` being one of the constants of `access`. */
export async function mayUse(path: string, mode: number): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  )
}
