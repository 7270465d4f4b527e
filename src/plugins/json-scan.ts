/**
 * Looks over JSON text before it is parsed: what a parser would take, and what a service should not.
 * It goes once over the text, keeps only what is open, and leaves the grammar to `JSON.parse`: of text
 * that is JSON it tells exactly, and of other text at most a reason more to refuse it.
 */

export interface JsonLimits {
  /** Objects and arrays within one another. */
  depth: number
  /** Keys of objects and elements of arrays together; an empty object or array counts as one more. */
  members: number
}

/** An object or array that is open. */
interface Open {
  /** Keys so far; undefined in an array. */
  keys: Set<string> | undefined
  /** The next string is a key. */
  expectsKey: boolean
  /** The last key: that of the value that is read. */
  key: string | undefined
  /** It is the value of a key "constructor". */
  isConstructor: boolean
}

const QUOTE = 0x22
const COMMA = 0x2c
const OPEN_ARRAY = 0x5b
const BACKSLASH = 0x5c
const CLOSE_ARRAY = 0x5d
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d
/** How much of a key a reason quotes. */
const QUOTED_LENGTH = 64

/** Why a text is refused, to be read after "The body"; undefined where nothing speaks against parsing it. */
export function faultOfJson(text: string, limits: JsonLimits): string | undefined {
  const outer: Open[] = []
  let open: Open | undefined
  let members = 0
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) {
      const end = endOfString(text, at)
      if (open?.keys !== undefined && open.expectsKey) {
        const key = keyOf(text, at, end)
        if (key === undefined) return 'is not JSON'
        const fault = faultOfKey(key, open)
        if (fault !== undefined) return fault
        open.keys.add(key)
        open.key = key
        open.expectsKey = false
      }
      at = end
    } else if (code === COMMA) {
      if (++members > limits.members) return tooMany(limits)
      if (open !== undefined) open.expectsKey = true
    } else if (code === OPEN_OBJECT || code === OPEN_ARRAY) {
      if (++members > limits.members) return tooMany(limits)
      if (open !== undefined) outer.push(open)
      if (outer.length >= limits.depth) return `is nested more than ${limits.depth} levels deep`
      open = {
        keys: code === OPEN_OBJECT ? new Set() : undefined,
        expectsKey: true,
        key: undefined,
        isConstructor: open?.key === 'constructor',
      }
    } else if (code === CLOSE_OBJECT || code === CLOSE_ARRAY) {
      open = outer.pop()
    }
  }
  return undefined
}

/** Where the string that begins at `start` ends; the text's end where it does not. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) return at
    if (code === BACKSLASH) at++
  }
  return text.length
}

/** A key as the parser would have it: two spellings of one name are one key. */
function keyOf(text: string, start: number, end: number): string | undefined {
  const raw = text.slice(start + 1, end)
  if (!raw.includes('\\')) return raw
  try {
    return JSON.parse(text.slice(start, end + 1)) as string
  } catch {
    return undefined
  }
}

function faultOfKey(key: string, { keys, isConstructor }: Open): string | undefined {
  if (key === '__proto__') return 'has a key "__proto__"'
  if (key === 'prototype' && isConstructor) return 'has a key "constructor.prototype"'
  // A parser takes the last of two, and whoever read along may have taken the first.
  if (keys?.has(key) === true) return `has the key ${JSON.stringify(key.slice(0, QUOTED_LENGTH))} twice in one object`
  return undefined
}

function tooMany({ members }: JsonLimits): string {
  return `has more than ${members} keys and elements`
}
