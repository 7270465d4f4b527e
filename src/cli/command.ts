/** What the commands of the operator share: how they are called, how they answer, how they fail. */
import { type ParseArgsConfig, parseArgs } from 'node:util'
import { ConfigError, messageOf } from '../errors.ts'

export interface Output {
  /** Writes a line to standard output. */
  out(line: string): void
  /** Writes a line to standard error. */
  err(line: string): void
}

export const PROCESS_OUTPUT: Output = {
  out: (line) => void process.stdout.write(`${line}\n`),
  err: (line) => void process.stderr.write(`${line}\n`),
}

const FAILED = 1
const MISUSED = 2

/** The command was called in a way that it does not know. */
export class Misuse extends Error {}

/** Runs a command; answers the exit code. 1: it failed; 2: it was misused. Both are told in one line. */
export async function runCommand(name: string, { err }: Output, work: () => Promise<number>): Promise<number> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof Misuse) {
      err(`${name}: ${error.message} (--help tells how)`)
      return MISUSED
    }
    const told = error instanceof ConfigError || (error as NodeJS.ErrnoException).code !== undefined
    err(`${name}: ${told ? messageOf(error) : ((error as Error).stack ?? String(error))}`)
    return FAILED
  }
}

/** Words and flags of a command line; `Misuse` for a flag that is not among `options`, or lacks its value. */
export function parseFlags<const T extends NonNullable<ParseArgsConfig['options']>>(
  args: readonly string[],
  options: T,
) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true })
  } catch (error) {
    if (!String((error as NodeJS.ErrnoException).code).startsWith('ERR_PARSE_ARGS')) throw error
    // Some say in further sentences how a value that begins with "-" is given.
    throw new Misuse(messageOf(error).split(/[.\n] ?/)[0] ?? '')
  }
}
