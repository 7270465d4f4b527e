/**
 * What a Dockerfile may ask of a build. The daemon itself fetches what ADD and a syntax line name,
 * from the host's network, so both are refused.
 */
import { posix } from 'node:path'
import { AppError } from '../errors.ts'
import { requireAllowedImage } from './images.ts'
import { isClosedWorkingDir } from './working-dir.ts'

/** Each list has to allow a base image. */
type ImageLists = readonly (readonly string[])[]

/** Lines that hand the file to another parser, or change how this one reads it. */
const DIRECTIVE = /^\uFEFF?[^\S\r\n\u2028\u2029]*(?:(?:#|\/\/)\s*(?:syntax|escape)\s*=|\{\s*"(?:syntax|escape)")/im
const UNUSUAL_SPACE = /(?!^)\uFEFF|[^\S \t\r\n\uFEFF]|\u0085/
/** A flag whose end depends on quotes or an escape. */
const UNCLEAR_FLAG = /\s--\S*["'\\]/
const REMOTE_SOURCE = /:\/\/|^git@|\.git(#|$)/i
/** Parsers differ in whether several backslashes at its end continue a line: both readings have to pass. */
const CONTINUATIONS = [/\\[ \t]*$/, /(?<!\\)\\[ \t]*$/]
const RUN_OPTION = /^--(mount|network|security|device)\b/

/** Refuses (`policy_denied`) remote sources and base images that are not allowed. */
export function requireAllowedDockerfile(text: string, allowedImages: ImageLists): void {
  if (DIRECTIVE.test(text)) deny('"syntax" and "escape" lines are not allowed')
  // Go and JavaScript do not agree on what divides words and begins a comment.
  if (UNUSUAL_SPACE.test(text)) deny('white space other than spaces, tabs and line ends is not allowed')
  for (const continuation of CONTINUATIONS) {
    requireAllowedInstructions(instructions(text, continuation), (base) => requireBase(base, allowedImages))
  }
}

/** The images that an allowed Dockerfile is built from, in either reading; one that an argument decides has a `$`. */
export function baseImages(text: string): ReadonlySet<string> {
  const found = new Set<string>()
  for (const continuation of CONTINUATIONS) {
    requireAllowedInstructions(instructions(text, continuation), (base) => void found.add(base))
  }
  return found
}

interface Instruction {
  keyword: string
  /** Words that begin with "--" before all others. */
  flags: string[]
  words: string[]
  /** All that follows the keyword, as it stands, from the space between them on. */
  raw: string
}

function requireAllowedInstructions(found: Iterable<Instruction>, onBase: (reference: string) => void): void {
  const names = new Set<string>()
  const takeBase = (reference: string) => {
    if (!names.has(reference.toLowerCase()) && reference !== 'scratch') onBase(reference)
  }
  let stages = 0
  let folder = '/'
  for (const { keyword, flags, words, raw } of found) {
    if (keyword === 'FROM') {
      const [image = '', as, stage] = words
      takeBase(image)
      if (as?.toUpperCase() === 'AS' && stage !== undefined) names.add(stage.toLowerCase())
      stages += 1
      folder = '/'
    }
    if (keyword === 'COPY' && UNCLEAR_FLAG.test(raw)) deny('quotes and backslashes in flags are not allowed')
    if (keyword === 'ADD' && raw.includes('\\')) deny('backslashes in ADD are not allowed')
    if (keyword === 'ADD' && (raw.includes('$') || sources(words).some((source) => REMOTE_SOURCE.test(source)))) {
      deny('ADD of a remote source is not allowed; put the file into build.files and COPY it')
    }
    if (keyword === 'COPY') {
      for (const flag of flags.filter((candidate) => candidate.startsWith('--from='))) {
        const source = flag.slice('--from='.length)
        // Only COPY counts stages: the number of one that is complete is no image.
        if (!(/^\d+$/.test(source) && Number(source) < stages - 1)) takeBase(source)
      }
    }
    if (keyword === 'RUN' && flags.some((flag) => RUN_OPTION.test(flag))) {
      deny('RUN with --mount, --network, --security or --device is not allowed')
    }
    if (keyword === 'WORKDIR') {
      if (raw.includes('$')) deny('WORKDIR with a variable is not allowed; write the folder out')
      // Relative ones add up.
      folder = posix.resolve(folder, words.join(' '))
      if (isClosedWorkingDir(folder)) deny(`a WORKDIR under /proc, /sys or /dev is not allowed`)
    }
    if (keyword === 'ONBUILD') deny('ONBUILD is not allowed')
  }
}

function requireBase(reference: string, allowedImages: ImageLists): void {
  if (!reference.includes('$')) {
    requireAllowedImage(reference, allowedImages)
    return
  }
  // An argument could stand for any image, so it passes only where every image does.
  if (allowedImages.every((patterns) => patterns.includes('*'))) return
  deny(`the base image "${reference}" depends on an argument`)
}

/** Instructions with continued lines joined, and comments and blank lines among them left out. */
function* instructions(text: string, continuation: RegExp): Generator<Instruction> {
  let held: string[] = []
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*(#|$)/.test(line)) continue
    if (continuation.test(line)) {
      held.push(line.replace(/\\[ \t]*$/, ''))
      continue
    }
    yield instruction(held.join('') + line)
    held = []
  }
  if (held.length > 0) yield instruction(held.join(''))
}

function instruction(line: string): Instruction {
  const text = line.trim()
  const end = text.search(/\s|$/)
  const raw = text.slice(end)
  // A parser takes quotes and backslashes out of words.
  const words = raw
    .split(/\s/)
    .map((word) => word.replace(/["'\\]/g, ''))
    .filter((word) => word !== '')
  const plain = words.findIndex((word) => !word.startsWith('--'))
  const flags = plain === -1 ? words : words.slice(0, plain)
  return { keyword: text.slice(0, end).toUpperCase(), flags, words: words.slice(flags.length), raw }
}

/** What may be a source: words, and items where they are a JSON array. */
function sources(words: readonly string[]): string[] {
  return words.flatMap((word) => word.split(/[[\],]/))
}

function deny(why: string): never {
  throw new AppError('policy_denied', `The Dockerfile is refused: ${why}`, { rule: 'dockerfile' })
}
