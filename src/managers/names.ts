/** Ids that callers see, and the names that containers bear. */
import { randomUUIDv7 } from 'node:crypto'

/** Of a UUIDv7: the milliseconds since 1970 that it begins with, as it writes them. */
const TIME_LENGTH = '01900000-0000'.length
let latestMs = 0

/** Sortable by the time of its making: `exec_0190…`. A clock that is set back does not undo the order. */
export function newId(prefix: 'exec' | 'relic' | 'worker' | 'snapshot' | 'pool'): string {
  const id = randomUUIDv7()
  const ms = timeOf(id)
  latestMs = ms >= latestMs ? ms : latestMs + 1
  const hex = latestMs.toString(16).padStart(12, '0')
  return `${prefix}_${hex.slice(0, 8)}-${hex.slice(8)}${id.slice(TIME_LENGTH)}`
}

/** Ids that are made from now on come after this one, which an earlier process made. */
export function continueIds(id: string): void {
  latestMs = Math.max(latestMs, madeAt(id))
}

/** Milliseconds since 1970 at which an id was made. */
export function madeAt(id: string): number {
  return timeOf(id.slice(id.indexOf('_') + 1))
}

function timeOf(uuid: string): number {
  return Number.parseInt(uuid.slice(0, TIME_LENGTH).replace('-', ''), 16)
}

/** A DNS label holds at most 63 characters, and a container's name is one on its networks. */
const MAX_NAME = 63

/** `tool_{tool}_{session}_{id8}` (without a session one part less), with the longer parts shortened where it would exceed 63 characters. */
export function containerName(
  kind: 'tool' | 'relic' | 'worker' | 'egress',
  name: string,
  sessionId: string,
  id: string,
): string {
  // A UUIDv7 begins with the time; its end is random.
  const id8 = id.slice(-8)
  const room = MAX_NAME - kind.length - id8.length - 3
  const forName = Math.max(Math.floor(room / 2), room - sessionId.length)
  const shownName = name.slice(0, forName)
  const shownSession = sessionId.slice(0, room - shownName.length)
  return [kind, shownName, shownSession, id8].filter((part) => part !== '').join('_')
}
