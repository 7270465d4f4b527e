/** The arguments of the bench. */
import { parseArgs } from 'node:util'

export interface Options {
  /** Ids of measures; null for all. */
  only: readonly string[] | null
  pairs: number
  /** Where the report goes as JSON, beside its usual place. */
  json: string | undefined
  /** A report of an earlier run, in place of one now. */
  from: string | undefined
  /** Puts the table into README.md and docs/PERFORMANCE.md. */
  write: boolean
}

const DEFAULT_PAIRS = '10'

/** Throws an `Error` that says what is wrong with them. */
export function parseOptions(argv: readonly string[], known: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: 'string' },
      pairs: { type: 'string', default: DEFAULT_PAIRS },
      json: { type: 'string' },
      from: { type: 'string' },
      write: { type: 'boolean', default: false },
    },
  })
  const pairs = Number(values.pairs)
  if (!Number.isInteger(pairs) || pairs < 1) throw new Error('--pairs takes a whole number from 1')
  const only = values.only?.split(',').map((id) => id.trim().toUpperCase()) ?? null
  const unknown = only?.find((id) => !known.includes(id))
  if (unknown !== undefined) throw new Error(`--only: there is no measure ${unknown}: there are ${known.join(', ')}`)
  if (values.write && only !== null) throw new Error('--write takes the table of all measures: leave out --only')
  return { only, pairs, json: values.json, from: values.from, write: values.write }
}
