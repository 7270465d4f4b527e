/**
 * Named moments between two steps that have to survive each other's absence. Tests put a hook here, to
 * end the process at one of them; without a hook, as in production, nothing happens there.
 */
export const FAILPOINTS = [
  'idempotency.claimed',
  'record.insert',
  'record.write',
  'record.inserted',
  'record.updated',
  'tool.accepted',
  'tool.turn',
  'tool.prepared',
  'pool.created',
  'pool.parked',
  'pool.taken',
  'pool.fitted_out',
  'pool.handed_over',
  'container.create',
  'container.created',
  'tool.attached',
  'tool.filled',
  'tool.started',
  'tool.running',
  'tool.ended',
  'tool.drained',
  'tool.collected',
  'tool.stored',
  'tool.sealed',
  'container.remove',
  'container.removed',
  'network.create',
  'network.created',
  'network.remove',
  'network.removed',
  'volume.created',
  'process.attached',
  'process.started',
  'relic.created',
  'relic.healthy',
  'relic.undo',
  'worker.created',
  'worker.ready',
  'worker.halted',
  'worker.replaced',
  'worker.refreshed',
  'exec.recorded',
  'exec.started',
  'exec.ended',
  'session.ending',
  'session.emptied',
  'session.ended',
  'reconcile.listed',
  'reconcile.settled',
] as const
export type Failpoint = (typeof FAILPOINTS)[number]

let hook: ((name: Failpoint) => void) | undefined

export function failpoint(name: Failpoint): void {
  hook?.(name)
}

/** For tests alone. */
export function setFailpointHook(next: ((name: Failpoint) => void) | undefined): void {
  hook = next
}
