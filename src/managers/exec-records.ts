/** What commands leave in the store: a record and their output. */
import type { Store } from '../store/store.ts'

export async function forgetCommand(store: Store, execId: string): Promise<void> {
  await store.spools.remove(execId)
  await store.execs.remove(execId)
}

/** All commands of a worker, by the id of its record. */
export async function forgetCommands(store: Store, recordId: string): Promise<void> {
  for (;;) {
    const { items } = await store.execs.list({ name: recordId, limit: 1000 })
    if (items.length === 0) return
    for (const { exec_id } of items) await forgetCommand(store, exec_id)
  }
}
