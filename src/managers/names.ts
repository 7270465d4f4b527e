/** Ids that callers see, and the names that containers bear. */
import { randomUUIDv7 } from 'node:crypto'

/** Sortable by the time of its making: `exec_0190…`. */
export function newId(prefix: 'exec' | 'relic' | 'worker' | 'snapshot'): string {
  return `${prefix}_${randomUUIDv7()}`
}

/** A DNS label holds at most 63 characters, and a container's name is one on its networks. */
const MAX_NAME = 63

/** `tool_{tool}_{session}_{id8}` (without a session one part less), with the longer parts shortened where it would exceed 63 characters. */
export function containerName(kind: 'tool' | 'relic' | 'worker', name: string, sessionId: string, id: string): string {
  // A UUIDv7 begins with the time; its end is random.
  const id8 = id.slice(-8)
  const room = MAX_NAME - kind.length - id8.length - 3
  const forName = Math.max(Math.floor(room / 2), room - sessionId.length)
  const shownName = name.slice(0, forName)
  const shownSession = sessionId.slice(0, room - shownName.length)
  return [kind, shownName, shownSession, id8].filter((part) => part !== '').join('_')
}
