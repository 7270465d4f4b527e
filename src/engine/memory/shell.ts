/**
 * A small subset of sh, interpreted: what tests ask of a container's process. Words with quotes and
 * $NAME, commands joined by ";", "&&" and line ends, redirections ">&2" and "> file", and the
 * commands echo, printf, cat, sleep, exit, true, false, env, sh -c, and oom (ends as the kernel's kill
 * for memory does).
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { OutputStream } from '../engine.ts'
import { readHandOff } from './hand-off.ts'

export interface ShellContext {
  environment: Readonly<Record<string, string>>
  /** Aborts when the process is killed. */
  signal: AbortSignal
  write(stream: OutputStream, bytes: Buffer): void
  /** All of stdin, once it has ended. */
  readStdin(): Promise<Buffer>
  readFile(path: string): Buffer | undefined
  /** False where the path cannot be written to. */
  writeFile(path: string, content: Buffer): boolean
  onOom(): void
  /** Ends the commands whose environment has this value. */
  killMarked(name: string, value: string): void
}

/** Where the service mounts its own programs. */
const HELPERS = '/.toolbox/'
const OOM_EXIT_CODE = 137
const NOT_FOUND = 127
const UNSTARTED = 125
const PROGRAMS = new Set(['echo', 'printf', 'cat', 'sleep', 'true', 'false', 'env', 'exit', 'oom', 'sh'])
/** How long a process that is told to end takes to do so. */
const FOREVER_MS = 2 ** 31 - 1

/** Ends the script that runs, with a code. */
class Exit extends Error {
  readonly code: number
  constructor(code: number) {
    super(`exit ${code}`)
    this.code = code
  }
}

/** Runs an argv and answers its exit code; rejects when the signal aborts. */
export async function execute(argv: readonly string[], context: ShellContext): Promise<number> {
  const [program = '', ...rest] = argv
  try {
    if (program.startsWith(HELPERS)) return await helper(program.slice(HELPERS.length), rest, context)
    if (program.endsWith('/docker-init')) return await execute(rest.slice(rest.indexOf('--') + 1), context)
    return await command(program.replace(/^.*\//, ''), rest, context, program)
  } catch (error) {
    if (error instanceof Exit) return error.code
    throw error
  }
}

async function command(name: string, args: readonly string[], context: ShellContext, asGiven = name): Promise<number> {
  context.signal.throwIfAborted()
  const out = (text: string | Buffer) => context.write('stdout', Buffer.from(text))
  switch (name) {
    case 'echo':
      out(args[0] === '-n' ? args.slice(1).join(' ') : `${args.join(' ')}\n`)
      return 0
    case 'printf':
      out(format(args))
      return 0
    case 'cat':
      return cat(args, context)
    case 'sleep':
      await delay(Math.min(Number(args[0] ?? 0) * 1000, FOREVER_MS), undefined, { signal: context.signal })
      return 0
    case 'true':
      return 0
    case 'false':
      return 1
    case 'env':
      for (const [key, value] of Object.entries(context.environment)) out(`${key}=${value}\n`)
      return 0
    case 'exit':
      throw new Exit(Number(args[0] ?? 0))
    case 'oom':
      context.onOom()
      throw new Exit(OOM_EXIT_CODE)
    case 'sh':
      return script(args[args.indexOf('-c') + 1] ?? '', context)
    default:
      context.write('stderr', Buffer.from(`[FATAL tini (7)] exec ${asGiven} failed: No such file or directory\n`))
      return NOT_FOUND
  }
}

/** What the service's own programs come to, where there are no processes to look after. */
async function helper(name: string, args: readonly string[], context: ShellContext): Promise<number> {
  switch (name) {
    case 'tool-start': {
      const told = readHandOff(await context.readStdin())
      if (told === undefined || !PROGRAMS.has((told.argv[0] ?? '').replace(/^.*\//, ''))) {
        context.writeFile('/output/.container-orchestrator-unstarted', Buffer.alloc(0))
        return UNSTARTED
      }
      const environment = { ...context.environment, ...told.environment }
      return execute(told.argv, { ...context, environment, readStdin: async () => told.stdin })
    }
    case 'worker-start': {
      await context.readStdin()
      const [, ...argv] = args
      return execute(argv, context)
    }
    case 'worker-exec': {
      const [, , form, ...argv] = args
      return form === 'shell' ? script(argv[0] ?? '', context) : execute(argv, context)
    }
    case 'loopback-alone':
      return context.readFile('/etc/hosts')?.includes('localhost') ? 0 : 1
    case 'worker-kill':
      context.killMarked('EXECUTION_ID', args[0] ?? '')
      return 0
    default:
      return NOT_FOUND
  }
}

async function cat(paths: readonly string[], context: ShellContext): Promise<number> {
  if (paths.length === 0) {
    context.write('stdout', await context.readStdin())
    return 0
  }
  for (const path of paths) {
    const content = context.readFile(path)
    if (content === undefined) {
      context.write('stderr', Buffer.from(`cat: can't open '${path}': No such file or directory\n`))
      return 1
    }
    context.write('stdout', content)
  }
  return 0
}

function format([pattern = '', ...values]: readonly string[]): string {
  let next = 0
  return pattern.replace(/%s|\\n|\\t/g, (code) =>
    code === '%s' ? (values[next++] ?? '') : code === '\\n' ? '\n' : '\t',
  )
}

async function script(text: string, context: ShellContext): Promise<number> {
  let code = 0
  for (const { words, onlyAfterSuccess } of statements(text, context.environment)) {
    if (onlyAfterSuccess && code !== 0) continue
    const redirected = redirect(words, context)
    const [name, ...args] = redirected.words
    code = name === undefined ? 0 : await command(name, args, redirected.context)
    code = redirected.finish(code)
  }
  return code
}

/** A command's words without its redirection, and a context in which it takes effect. */
function redirect(words: readonly string[], context: ShellContext) {
  const arrow = words.findIndex((word) => word === '>' || word === '>&2')
  const untouched = { words, context, finish: (code: number) => code }
  if (arrow === -1) return untouched
  if (words[arrow] === '>&2') {
    const write: ShellContext['write'] = (_stream, bytes) => context.write('stderr', bytes)
    return { ...untouched, words: words.toSpliced(arrow, 1), context: { ...context, write } }
  }
  const path = words[arrow + 1] ?? ''
  const parts: Buffer[] = []
  return {
    words: words.toSpliced(arrow, 2),
    context: { ...context, write: (_stream: OutputStream, bytes: Buffer) => void parts.push(bytes) },
    finish: (code: number) => {
      if (context.writeFile(path, Buffer.concat(parts))) return code
      context.write('stderr', Buffer.from(`sh: can't create ${path}: Read-only file system\n`))
      return 1
    },
  }
}

/** Words of each command in order, with quotes removed and variables replaced. */
function statements(text: string, environment: Readonly<Record<string, string>>) {
  const found: { words: string[]; onlyAfterSuccess: boolean }[] = []
  let current = { words: [] as string[], onlyAfterSuccess: false }
  const end = (onlyAfterSuccess: boolean) => {
    if (current.words.length > 0) found.push(current)
    current = { words: [], onlyAfterSuccess }
  }
  const tokens = /\s*(?:(&&)|([;\n])|(>&2)|(>)|((?:'[^']*'|"(?:\\.|[^"\\])*"|[^\s;>'"&])+))/gy
  for (let match = tokens.exec(text); match !== null; match = tokens.exec(text)) {
    const [, and, separator, toStderr, toFile, word] = match
    if (and !== undefined) end(true)
    else if (separator !== undefined) end(false)
    else current.words.push(toStderr ?? toFile ?? unquoted(word ?? '', environment))
  }
  end(false)
  return found
}

function unquoted(word: string, environment: Readonly<Record<string, string>>): string {
  const expand = (part: string) => part.replace(/\$(\w+)/g, (_whole, name: string) => environment[name] ?? '')
  return word.replace(/'([^']*)'|"((?:\\.|[^"\\])*)"|([^'"]+)/g, (_whole, single, double, bare) =>
    single !== undefined ? single : double !== undefined ? expand(double.replace(/\\(["\\$`])/g, '$1')) : expand(bare),
  )
}
