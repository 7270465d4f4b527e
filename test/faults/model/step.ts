import type { AsyncCommand } from 'fast-check'
import fc from 'fast-check'
import { expect } from 'vitest'
import type { KeyedCall, Model } from './model.ts'
import { compare } from './observe.ts'
import type { Reply, World } from './world.ts'

/** A command that ends only where it is ended. */
export const LONG = ['sleep', '86400']

/** Idempotency keys: mostly none, and so few that they come again. */
export const keys = fc.option(fc.constantFrom('k0', 'k1', 'k2'), { nil: undefined, freq: 3 })

/** Calls made over all sequences. */
export const counts = { commands: 0 }

/** One command of a sequence: does its calls, holds the answers against the model, and then the world. */
export class Step implements AsyncCommand<Model, World> {
  readonly #label: string
  readonly #isPossible: (model: Model) => boolean
  readonly #work: (model: Model, world: World) => Promise<void>

  constructor(
    label: string,
    work: (model: Model, world: World) => Promise<void>,
    isPossible: (model: Model) => boolean = () => true,
  ) {
    this.#label = label
    this.#work = work
    this.#isPossible = isPossible
  }

  check(model: Readonly<Model>): boolean {
    return this.#isPossible(model)
  }

  async run(model: Model, world: World): Promise<void> {
    counts.commands += 1
    await this.#work(model, world)
    await compare(model, world)
  }

  toString(): string {
    return this.#label
  }
}

/** Holds the status of an answer against the one that is expected, and shows the answer where they differ. */
export function expectStatus(reply: Reply, status: number, what: string): void {
  if (reply.status === status) return
  expect.fail(`${what}: expected ${status}, answered ${reply.status}: ${JSON.stringify(reply.body)}`)
}

/** The element that a number stands for, whatever the number. */
export function pick<T>(items: readonly T[], index: number): T {
  const item = items[index % items.length]
  if (item === undefined) throw new Error('there is nothing to pick from')
  return item
}

/** What a key that was used before makes of a call; undefined where it is new. */
function repeated(
  model: Model,
  key: string | undefined,
  call: Pick<KeyedCall, 'path' | 'body'>,
): KeyedCall | 'reused' | undefined {
  const known = key === undefined ? undefined : model.keys.get(key)
  if (known === undefined) return undefined
  const isSame = known.path === call.path && JSON.stringify(known.body) === JSON.stringify(call.body)
  return isSame ? known : 'reused'
}

/** Holds the answer to a call with a known key against the first answer; true where the key was known. */
export async function answeredByKey(
  model: Model,
  world: World,
  key: string | undefined,
  call: Pick<KeyedCall, 'path' | 'body'>,
): Promise<boolean> {
  const known = repeated(model, key, call)
  if (known === undefined || key === undefined) return false
  const reply = await world.post(call.path, call.body, { 'idempotency-key': key })
  if (known === 'reused') {
    expectStatus(reply, 422, `${call.path} with the key of another call`)
    expect(reply.body.code).toBe('idempotency_key_reused')
    return true
  }
  expectStatus(reply, known.status, `${call.path} repeated with its key`)
  if (known.id !== undefined) expect(reply.body[known.idField]).toBe(known.id)
  return true
}

export function keyHeader(key: string | undefined): Record<string, string> {
  return key === undefined ? {} : { 'idempotency-key': key }
}
