/** `npm run audit -- verify | tail`: the audit log of a data folder. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { auditFiles } from '../audit/audit-file.ts'
import { verify } from '../audit/verify.ts'
import { readSetting } from '../config.ts'
import { ConfigError } from '../errors.ts'
import { Misuse, type Output, PROCESS_OUTPUT, parseFlags, runCommand } from './command.ts'

const HELP = `The audit log, in the folder "audit" of CO_DATA_DIR.

  npm run audit -- verify [--head HASH] [--after HASH]
  npm run audit -- tail [--lines 20]

verify walks through all files, and tells the number of entries and the hash of the last one. It ends
with 1 where an entry is not as it was written, or is missing.

  --head      a hash that verify or the service's log told earlier: it has to be there still.
              Without it, nobody can tell that the end was cut off
  --after     hash of the last entry in files that were moved away, where the first files are missing
  --lines     how many of the last entries tail prints, one line of JSON each
  --data      another folder than CO_DATA_DIR`

const text = { type: 'string' } as const
const everywhere = { data: text, help: { type: 'boolean', short: 'h' } } as const

const BROKEN = 1

/** Runs the command line `args`, without the program's name; answers the exit code. */
export function auditCommand(args: readonly string[], output: Output): Promise<number> {
  return runCommand('audit', output, async () => {
    const [command, ...rest] = args
    if (command === undefined || args.includes('--help') || args.includes('-h')) {
      output.out(HELP)
      return command === undefined ? 2 : 0
    }
    if (command === 'verify') return check(rest, output)
    if (command === 'tail') return tail(rest, output)
    throw new Misuse(`there is no command ${JSON.stringify(command)}`)
  })
}

async function check(args: readonly string[], output: Output): Promise<number> {
  const { values, positionals } = parseFlags(args, { ...everywhere, head: text, after: text })
  requireNoWords(positionals)
  const folder = await folderOf(values.data)
  const [head, after] = [hashOf('head', values.head), hashOf('after', values.after)]
  const { entries, files, broken, hasHead, head: last } = await verify(folder, { head, after })
  output.out(`${entries} entries in ${files} files${broken === undefined ? '' : ' up to a broken one'}`)
  output.out(`head ${last}`)
  if (broken !== undefined) output.err(`audit: broken: ${broken.file}, line ${broken.line}: ${broken.why}`)
  if (hasHead === false) output.err(`audit: broken: ${head} is not in the log: its end was cut off or written anew`)
  return broken === undefined && hasHead !== false ? 0 : BROKEN
}

async function tail(args: readonly string[], output: Output): Promise<number> {
  const { values, positionals } = parseFlags(args, { ...everywhere, lines: text })
  requireNoWords(positionals)
  const wanted = values.lines ?? '20'
  if (!/^[1-9]\d{0,5}$/.test(wanted)) throw new Misuse(`--lines ${wanted}: a number from 1`)
  const folder = await folderOf(values.data)
  let lines: string[] = []
  for (const name of (await auditFiles(folder)).toReversed()) {
    const content = await readFile(join(folder, name), 'latin1')
    lines = [...content.split('\n').filter((line) => line !== ''), ...lines].slice(-Number(wanted))
    if (lines.length === Number(wanted)) break
  }
  // Entries are printable; what somebody else wrote there need not be.
  for (const line of lines) output.out(line.replace(/[^\x20-\x7e]/g, '?'))
  return 0
}

async function folderOf(flag: string | undefined): Promise<string> {
  const data = flag ?? readSetting('CO_DATA_DIR') ?? ''
  const folder = join(data, 'audit')
  const found = await auditFiles(folder).catch(() => [])
  if (found.length === 0) throw new ConfigError(`CO_DATA_DIR=${data}: there is no audit log in it`)
  return folder
}

function hashOf(flag: string, value: string | undefined): string | undefined {
  if (value !== undefined && !/^[0-9a-f]{64}$/.test(value)) throw new Misuse(`--${flag} ${value}: 64 hex digits`)
  return value
}

function requireNoWords(words: readonly string[]): void {
  if (words.length > 0) throw new Misuse(`${JSON.stringify(words[0])} is one word too many`)
}

if (import.meta.main) process.exitCode = await auditCommand(process.argv.slice(2), PROCESS_OUTPUT)
