import type { Containers, Engine } from './engine.ts'

/** Calls that leave containers as they are. What is not listed counts as a change. */
const READS: ReadonlySet<string> = new Set<keyof Containers>([
  'inspect',
  'list',
  'wait',
  'attach',
  'logs',
  'stats',
  'sample',
  'statPath',
  'readArchive',
  'writeArchive',
  'exec',
  'commit',
])

/** A call that may have changed a container has settled; there is no id where one was to be created. */
export type ChangeListener = (method: string, containerId: string | undefined) => void

/** The same engine, which tells of its own changes before their callers know of them: its events may come later. */
export function tellingChanges(engine: Engine, changed: ChangeListener): Engine {
  const containers = new Proxy(engine.containers, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      if (READS.has(String(name))) return member.bind(target)
      return (...given: unknown[]) => {
        const [id] = given
        const told = () => changed(String(name), typeof id === 'string' ? id : undefined)
        const answer: unknown = member.apply(target, given)
        if (answer instanceof Promise) answer.then(told, told)
        return answer
      }
    },
  })
  return new Proxy(engine, {
    get(target, name) {
      if (name === 'containers') return containers
      const member: unknown = Reflect.get(target, name, target)
      return typeof member === 'function' ? member.bind(target) : member
    },
  })
}
