/** Contenders that do one work, by turns in one run: what disturbs the machine disturbs them all. */

export type Contender = Surroundings & ({ run(): Promise<unknown> } | { figure(): Promise<number> })

interface Surroundings {
  /** Untimed, before each. */
  prepare?(): Promise<void>
  /** Untimed, after each: ends when what it left going on has ended. */
  settle?(): Promise<void>
}

/** What a contender makes anew in each round, and how that ends. */
export interface Making<T> {
  start(): Promise<T>
  end(made: T): Promise<unknown>
}

/** Its start is timed; it ends behind each. */
export function timedStart<T>({ start, end }: Making<T>) {
  let made: { it: T } | undefined
  return {
    run: async () => {
      made = { it: await start() }
    },
    settle: async () => {
      if (made !== undefined) await end(made.it)
    },
  }
}

/** Its end is timed; it is started before each. */
export function timedEnd<T>({ start, end }: Making<T>) {
  let made: { it: T } | undefined
  return {
    prepare: async () => {
      made = { it: await start() }
    },
    run: async () => {
      if (made !== undefined) await end(made.it)
    },
  }
}

export interface TurnOptions {
  rounds: number
  /** Rounds before these that do not count; 1 where absent. */
  warmUp?: number
  signal: AbortSignal
}

/** How long each `run` took, in milliseconds, and what each `figure` was, round by round. Who begins changes with each round. */
export async function inTurn<Name extends string>(
  contenders: Record<Name, Contender>,
  { rounds, warmUp = 1, signal }: TurnOptions,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(contenders) as Name[]
  const values = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>
  for (let round = -warmUp; round < rounds; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      signal.throwIfAborted()
      const value = await once(contenders[name])
      if (round >= 0) values[name].push(value)
    }
  }
  return values
}

async function once(contender: Contender): Promise<number> {
  await contender.prepare?.()
  const began = performance.now()
  const figure = 'run' in contender ? await contender.run() : await contender.figure()
  const took = performance.now() - began
  await contender.settle?.()
  return 'run' in contender ? took : (figure as number)
}
