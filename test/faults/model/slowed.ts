import { setTimeout as sleep } from 'node:timers/promises'
import type { Engine } from '../../../src/engine/engine.ts'
import { Random } from '../../support/random.ts'

/** Calls that answer once. */
const CALLS = new Set(
  'create start stop kill remove inspect list attach exec pause resume commit connect disconnect statPath pull build'.split(
    ' ',
  ),
)
const LONGEST_MS = 3

/** An engine whose calls take a moment before they act and before they answer, so that others come between. */
export function slowed<T extends Engine>(engine: T, seed: number): T {
  const random = new Random(seed)
  const pause = () => sleep(random.between(0, LONGEST_MS))
  const wrap = <Part extends object>(part: Part): Part =>
    new Proxy(part, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target)
        if (typeof value !== 'function') return value
        if (!CALLS.has(String(name))) return value.bind(target)
        return async (...args: unknown[]) => {
          await pause()
          try {
            return await Reflect.apply(value, target, args)
          } finally {
            await pause()
          }
        }
      },
    })
  const parts = new Map(
    Object.entries({
      containers: wrap(engine.containers),
      networks: wrap(engine.networks),
      images: wrap(engine.images),
      volumes: wrap(engine.volumes),
    }),
  )
  return new Proxy(engine, {
    get(target, name) {
      const value: unknown = parts.get(String(name)) ?? Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
