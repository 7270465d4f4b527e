import { setImmediate } from 'node:timers/promises'

/** Work that notes its beginning and its end, between which others may have their turn, and answers its name. */
export function recordedWork() {
  const events: string[] = []
  const work = (name: string) => async () => {
    events.push(`${name} begins`)
    await setImmediate()
    events.push(`${name} ends`)
    return name
  }
  return { events, work }
}
