/** What a parked container is told, through its stdin, to become the tool of a run: pure. */
import { randomBytes } from 'node:crypto'
import type { ExecuteTool } from '../domain/tool.ts'
import type { ImageInfo } from '../engine/engine.ts'
import { assignments, shellWord } from './shell-word.ts'
import { OWN_VARIABLE } from './toolbox-programs.ts'

export interface HandOff {
  /** Beside what the container has already. */
  environment: Readonly<Record<string, string>>
  argv: readonly string[]
  /** All that the tool reads; absent where its stdin is empty. */
  stdin?: string | undefined
}

/** Variables that a shell sets, computes or obeys itself: it cannot pass a caller's value on unchanged. */
const OF_THE_SHELL = new Set([
  'IFS',
  'OPTIND',
  'LINENO',
  'RANDOM',
  'EPOCHSECONDS',
  'EPOCHREALTIME',
  'FUNCNAME',
  'PPID',
  'PS1',
  'PS2',
  'PS4',
  'HISTFILE',
  'HISTFILESIZE',
  'ENV',
  'MAIL',
  'MAILPATH',
])

/** Variables that a shell exports of its own accord, and takes back where nobody asked for them. */
const EXPORTED = new Set(['PWD', 'OLDPWD', 'SHLVL'])
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/

/** The program and its arguments that an engine would start; empty where neither says anything. */
export function argvOf(
  { command, entrypoint }: Pick<ExecuteTool, 'command' | 'entrypoint'>,
  image: Pick<ImageInfo, 'command' | 'entrypoint'>,
): readonly string[] {
  if (entrypoint !== undefined) return [...entrypoint, ...(command ?? [])]
  return [...image.entrypoint, ...(command ?? image.command)]
}

/** True where the variables arrive as they are, those of the image and those of a request. */
export function canHandOver(environment: Readonly<Record<string, string>>, image: Pick<ImageInfo, 'environment'>) {
  const ofImage = image.environment.map(nameOf)
  return [...Object.keys(environment), ...ofImage].every(
    (name) => NAME.test(name) && !OF_THE_SHELL.has(name) && !OWN_VARIABLE.test(name),
  )
}

/**
 * The bytes for the stdin of `tool-start`, and all of the tool's own behind them: a line that tells how
 * many follow and how they end, then shell assignments that say nothing but what is quoted in them.
 */
export function encodeHandOff(handOff: HandOff, image: Pick<ImageInfo, 'environment'>): Buffer {
  const end = randomBytes(8).toString('hex')
  const bytes = Buffer.from(
    [
      `${assignments({ ...exportedBy(image), ...handOff.environment })}set -- ${handOff.argv.map(shellWord).join(' ')}`,
      `_w_stdin=${handOff.stdin === undefined ? 'closed' : 'open'}`,
      `: ${end}`,
    ].join('\n'),
  )
  return Buffer.concat([Buffer.from(`${bytes.length} ${end}\n`), bytes, Buffer.from(handOff.stdin ?? '')])
}

function exportedBy({ environment }: Pick<ImageInfo, 'environment'>): Record<string, string> {
  return Object.fromEntries(
    environment
      .map((variable) => [nameOf(variable), variable.slice(nameOf(variable).length + 1)] as const)
      .filter(([name]) => EXPORTED.has(name)),
  )
}

function nameOf(variable: string): string {
  return variable.replace(/=.*$/s, '')
}
