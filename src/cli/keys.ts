/** `npm run keys -- create | list | rotate | revoke`: the keys in the file of CO_KEYS_FILE. */
import { z } from 'zod'
import { changeKeyFile, type KeyEntry, readKeyFile, stateOf } from '../access/key-file.ts'
import { KeyLimits } from '../access/key-limits.ts'
import { type Changed, createKey, revokeKey, rotateKey } from '../access/keys.ts'
import { scopeBeyond } from '../access/roles.ts'
import { readSetting } from '../config.ts'
import { ROLES, SCOPES } from '../domain/caller.ts'
import { Name } from '../domain/common.ts'
import { ConfigError } from '../errors.ts'
import { Misuse, type Output, PROCESS_OUTPUT, parseFlags, runCommand } from './command.ts'

const HELP = `Keys of callers, in the file of CO_KEYS_FILE. A running service takes a change over within a second.

  npm run keys -- create --role ROLE --owner NAME [--scopes A,B] [--expires 30d] [limits]
  npm run keys -- list
  npm run keys -- rotate ID [--overlap 24h] [--expires 30d]
  npm run keys -- revoke ID

create and rotate print the new key on standard output, this once: it is kept nowhere.
With npm's own lines away: KEY=$(npm run --silent keys -- create …)

  --role      ${ROLES.join(', ')}
  --owner     whose things the key makes and sees: keys of one owner share them
  --scopes    narrow the role: ${SCOPES.join(', ')}
  --expires   after how long, as in 90m, 24h or 30d; never by default
  --overlap   how long the old key goes on, 24h by default; 0s ends it at once
  --file      another file than that of CO_KEYS_FILE

Limits, each of what the key may ask for at most; lists are separated by commas:
  --profiles  --images  --networks  --host-roots  --credentials
  --max-memory-mb  --max-cpus  --max-timeout-seconds  --max-pids            (of one container)
  --max-sessions  --max-runs  --max-containers  --max-requests-per-minute   (at once, and in a minute)`

const LISTS = ['profiles', 'images', 'networks', 'host-roots', 'credentials'] as const
const AMOUNTS = [
  'max-memory-mb',
  'max-cpus',
  'max-timeout-seconds',
  'max-pids',
  'max-sessions',
  'max-runs',
  'max-containers',
  'max-requests-per-minute',
] as const

const text = { type: 'string' } as const
const everywhere = { file: text, help: { type: 'boolean', short: 'h' } } as const
const limitFlags = Object.fromEntries([...LISTS, ...AMOUNTS].map((flag) => [flag, text])) as Record<
  (typeof LISTS)[number] | (typeof AMOUNTS)[number],
  typeof text
>

/** Runs the command line `args`, without the program's name; answers the exit code. */
export function keysCommand(args: readonly string[], output: Output, now: () => Date = () => new Date()) {
  return runCommand('keys', output, async () => {
    const [command, ...rest] = args
    if (command === undefined || args.includes('--help') || args.includes('-h')) {
      output.out(HELP)
      return command === undefined ? 2 : 0
    }
    if (command === 'create') return create(rest, output, now())
    if (command === 'list') return list(rest, output, now())
    if (command === 'rotate') return rotate(rest, output, now())
    if (command === 'revoke') return revoke(rest, output, now())
    throw new Misuse(`there is no command ${JSON.stringify(command)}`)
  })
}

async function create(args: readonly string[], output: Output, now: Date): Promise<number> {
  const { values, positionals } = parseFlags(args, {
    ...everywhere,
    ...limitFlags,
    role: text,
    owner: text,
    scopes: text,
    expires: text,
  })
  requireWords(positionals, 0)
  const role = checked('role', z.enum(ROLES), values.role)
  const owner = checked('owner', Name, values.owner)
  const scopes =
    values.scopes === undefined ? undefined : checked('scopes', z.array(z.enum(SCOPES)).min(1), words(values.scopes))
  const beyond = scopeBeyond(role, scopes ?? [])
  if (beyond !== undefined) throw new Misuse(`--scopes: the role "${role}" does not have "${beyond}"`)
  const wanted = { owner, role, scopes, limits: limitsOf(values), expiresAt: momentAfter(now, values.expires) }
  hand(await changeKeyFile(fileOf(values.file), (keys) => createKey(keys, wanted, now)), output)
  return 0
}

async function rotate(args: readonly string[], output: Output, now: Date): Promise<number> {
  const { values, positionals } = parseFlags(args, { ...everywhere, overlap: text, expires: text })
  const [id = ''] = requireWords(positionals, 1)
  const overlapMs = milliseconds('overlap', values.overlap ?? '24h')
  const expiresAt = momentAfter(now, values.expires)
  hand(await changeKeyFile(fileOf(values.file), (keys) => rotateKey(keys, id, { overlapMs, expiresAt }, now)), output)
  output.err(`The old key ${id} is valid until ${new Date(now.getTime() + overlapMs).toISOString()} at the latest.`)
  return 0
}

async function revoke(args: readonly string[], output: Output, now: Date): Promise<number> {
  const { values, positionals } = parseFlags(args, everywhere)
  const [id = ''] = requireWords(positionals, 1)
  const { owner } = await changeKeyFile(fileOf(values.file), (keys) => revokeKey(keys, id, now))
  output.err(`Key ${id} of ${owner} is revoked, and with it the session tokens that it made.`)
  return 0
}

async function list(args: readonly string[], output: Output, now: Date): Promise<number> {
  const { values, positionals } = parseFlags(args, everywhere)
  requireWords(positionals, 0)
  const path = fileOf(values.file)
  const keys = await readKeyFile(path)
  if (keys === undefined) throw new ConfigError(`CO_KEYS_FILE=${path}: there is no such file`)
  const rows = keys.map((key) => [
    key.id,
    key.owner,
    key.role,
    key.scopes?.join(',') ?? '(all of the role)',
    key.created_at,
    key.expires_at ?? 'never',
    stateOf(key, now),
  ])
  for (const line of table([['ID', 'OWNER', 'ROLE', 'SCOPES', 'CREATED', 'EXPIRES', 'STATE'], ...rows]))
    output.out(line)
  return 0
}

/** Hands a new key over, and tells about it where it does not get into what reads the key. */
function hand({ entry, text }: Changed['result'], output: Output): void {
  output.out(text)
  output.err(`Key ${entry.id} of ${entry.owner} (${entry.role}), ${validity(entry)}. It is not shown again.`)
}

function validity({ expires_at }: KeyEntry): string {
  return expires_at === undefined ? 'valid until it is revoked' : `valid until ${expires_at}`
}

function fileOf(flag: string | undefined): string {
  const path = flag ?? readSetting('CO_KEYS_FILE')
  if (path === undefined) throw new Misuse('name the file in CO_KEYS_FILE or --file')
  return path
}

function limitsOf(values: Partial<Record<string, unknown>>): KeyLimits {
  const flags = [...LISTS, ...AMOUNTS].filter((flag) => values[flag] !== undefined)
  const fields = flags.map((flag) => {
    const value = String(values[flag])
    const isList = (LISTS as readonly string[]).includes(flag)
    return [fieldOf(flag), isList ? words(value) : number(flag, value)]
  })
  const parsed = KeyLimits.safeParse(Object.fromEntries(fields))
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw new Misuse(`--${flags.find((flag) => fieldOf(flag) === issue?.path[0])}: ${issue?.message}`)
}

const fieldOf = (flag: string) => flag.replace('max-', '').replaceAll('-', '_')

function number(flag: string, value: string): number {
  if (!/^\d+(\.\d+)?$/.test(value)) throw new Misuse(`--${flag} ${value}: a number`)
  return Number(value)
}

function words(value: string): string[] {
  const items = value.split(',').map((item) => item.trim())
  return items.filter((item) => item !== '')
}

const UNITS: Record<string, number> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

function milliseconds(flag: string, value: string): number {
  const [, amount = '', unit = ''] = /^(\d{1,6})([smhd])$/.exec(value) ?? []
  if (amount === '') throw new Misuse(`--${flag} ${value}: a number and s, m, h or d, as in 30d`)
  return Number(amount) * (UNITS[unit] ?? 0)
}

function momentAfter(now: Date, expires: string | undefined): Date | undefined {
  if (expires === undefined) return undefined
  const after = milliseconds('expires', expires)
  if (after === 0) throw new Misuse(`--expires ${expires}: such a key would never be valid`)
  return new Date(now.getTime() + after)
}

function checked<T extends z.ZodType>(flag: string, schema: T, value: unknown): z.infer<T> {
  if (value === undefined) throw new Misuse(`--${flag} is missing`)
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw new Misuse(`--${flag}: ${parsed.error.issues[0]?.message}`)
}

function requireWords(given: readonly string[], count: number): readonly string[] {
  if (given.length < count) throw new Misuse('give the id of the key')
  if (given.length > count) throw new Misuse(`${JSON.stringify(given[count])} is one word too many`)
  return given
}

function table(rows: readonly string[][]): string[] {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? []
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}

if (import.meta.main) process.exitCode = await keysCommand(process.argv.slice(2), PROCESS_OUTPUT)
