import { describe, expect, it } from 'vitest'
import { parseOptions } from '../../../bench/options.ts'

const KNOWN = ['P1', 'P2', 'P10']

describe('the arguments of the bench', () => {
  it('measures everything where nothing is said', () => {
    expect(parseOptions([], KNOWN)).toEqual({ only: null, pairs: 10, json: undefined, from: undefined, write: false })
  })

  it('takes measures, pairs and a file', () => {
    const options = parseOptions(['--only', 'p1, P10', '--pairs', '3', '--json', 'out.json'], KNOWN)
    expect(options).toMatchObject({ only: ['P1', 'P10'], pairs: 3, json: 'out.json' })
  })

  it.each([
    [['--only', 'P1,P13'], 'there is no measure P13: there are P1, P2, P10'],
    [['--pairs', '0'], '--pairs takes a whole number from 1'],
    [['--pairs', 'many'], '--pairs takes a whole number from 1'],
    [['--only', 'P1', '--write'], 'leave out --only'],
  ])('refuses %j', (argv, words) => {
    expect(() => parseOptions(argv, KNOWN)).toThrow(words)
  })
})
