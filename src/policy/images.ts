/**
 * Which images a pattern allows. Both are taken apart as engines take references apart, so that a
 * pattern for a name never allows a registry that is called like it.
 *
 * A pattern is a reference in which `*` stands for any characters within a part between slashes, within
 * a tag or within a digest, and `**` for any number of parts, the registry among them:
 * - `*` allows everything, ids of images included;
 * - `python` is `python:latest`, `python:3.*` all tags that begin so, `python:*` every tag and digest;
 * - a name that ends in `*`, such as `team/*`, means every tag and digest of it;
 * - `python@sha256:…` allows this digest, and `sha256:…` the image of this id.
 * Names without a registry are of the default one, and of its `library` where they have one part.
 */
import { AppError } from '../errors.ts'

const DEFAULT_REGISTRY = 'docker.io'
const DEFAULT_REGISTRY_ALIAS = 'index.docker.io'
const ANYTHING = '*'
const PATTERN = /^[A-Za-z0-9._*/:@-]{1,512}$/
/** An engine looks for images whose id begins so, beside those of that name. */
const ID = /^[0-9a-f]+$/
const FULL_ID = /^sha256:[0-9a-f*]+$/

interface Parts {
  /** The registry and then the path, part by part. */
  name: readonly string[]
  tag: string | undefined
  digest: string | undefined
}

/** True for what can be read as a pattern. */
export function isImagePattern(text: string): boolean {
  return PATTERN.test(text)
}

/** True where a reference matches one of the patterns. */
export function isAllowedImage(reference: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => pattern === ANYTHING || matches(reference, pattern))
}

/** Refuses (`policy_denied`) an image that one of the lists does not allow. */
export function requireAllowedImage(reference: string, lists: readonly (readonly string[])[]): void {
  if (lists.every((patterns) => isAllowedImage(reference, patterns))) return
  throw new AppError('policy_denied', `Image "${reference}" is not among those that the operator allows`, {
    rule: 'image',
    hint: ID.test(reference)
      ? 'It could be an id: write a name with its tag, as in "name:latest".'
      : 'CO_ALLOWED_IMAGES, the profile and the limits of the caller list the allowed references.',
  })
}

/** A reference that an engine cannot take for the beginning of an id. */
export function engineReference(reference: string): string {
  if (ID.test(reference) || FULL_ID.test(reference)) return reference
  const { tag, digest } = split(reference)
  return tag === undefined && digest === undefined ? `${reference}:latest` : reference
}

function matches(reference: string, pattern: string): boolean {
  if (ID.test(reference)) return false
  if (FULL_ID.test(reference)) return FULL_ID.test(pattern) && glob(pattern).test(reference)
  const given = split(reference)
  const allowed = split(pattern)
  return matchesName(given.name, allowed.name) && matchesVersion(given, allowed)
}

function matchesName(parts: readonly string[], patterns: readonly string[]): boolean {
  const [pattern, ...rest] = patterns
  if (pattern === undefined) return parts.length === 0
  const [part, ...further] = parts
  if (pattern === '**') return matchesName(parts, rest) || (parts.length > 0 && matchesName(further, patterns))
  return part !== undefined && glob(pattern).test(part) && matchesName(further, rest)
}

/** Where a reference has a digest, its tag decides nothing. */
function matchesVersion(given: Parts, allowed: Parts): boolean {
  const { tag = allowed.name.at(-1)?.endsWith('*') ? '*' : 'latest', digest } = allowed
  if (digest !== undefined) return given.digest !== undefined && glob(digest).test(given.digest)
  if (tag === '*') return true
  return given.digest === undefined && glob(tag).test(given.tag ?? 'latest')
}

function split(reference: string): Parts {
  const [named = '', digest] = reference.split('@')
  const colon = named.lastIndexOf(':')
  const tagged = colon > named.lastIndexOf('/')
  const tag = tagged ? named.slice(colon + 1) : undefined
  return { name: nameOf((tagged ? named.slice(0, colon) : named).split('/')), tag, digest }
}

/** A first part is a registry where it has a dot or a port, or is localhost. */
function nameOf(parts: readonly string[]): readonly string[] {
  const [first = '', ...path] = parts
  if (first === '**') return parts
  const hasRegistry = path.length > 0 && (/[.:]/.test(first) || first === 'localhost')
  if (hasRegistry && first !== DEFAULT_REGISTRY && first !== DEFAULT_REGISTRY_ALIAS) return parts
  const within = hasRegistry ? path : parts
  return [DEFAULT_REGISTRY, ...(within.length === 1 && within[0] !== '**' ? ['library'] : []), ...within]
}

function glob(pattern: string): RegExp {
  const literal = pattern.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`^${literal.join('.*')}$`)
}
