/**
 * All fields of a JSON text as an engine may read them: it takes keys without regard to case, and of keys
 * that are there twice it takes both. `JSON.parse` would show one of them.
 */

export interface Field {
  /** Keys from the top in lower case; items of lists are `*`. */
  path: readonly string[]
  /** A string, number, boolean or null; `{}` and `[]` for what is empty. */
  value: unknown
}

/** Throws a `SyntaxError` for what is no JSON. */
export function fieldsOf(text: string): Field[] {
  // Says what is no JSON, so that the walk below need not.
  JSON.parse(text)
  const walk = new Walk(text)
  walk.value([])
  return walk.fields
}

class Walk {
  readonly fields: Field[] = []
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  value(path: readonly string[]): void {
    const begin = this.#peek()
    if (begin === '{') this.#members(path)
    else if (begin === '[') this.#items(path)
    else if (begin === '"') this.fields.push({ path, value: this.#string() })
    else this.fields.push({ path, value: JSON.parse(this.#match(/[^\s,\]}]+/y)) })
  }

  #members(path: readonly string[]): void {
    this.#at += 1
    if (this.#closes('}')) {
      this.fields.push({ path, value: {} })
      return
    }
    do {
      this.#peek()
      const key = this.#string().toLowerCase()
      // The colon.
      this.#peek()
      this.#at += 1
      this.value([...path, key])
    } while (this.#goesOn('}'))
  }

  #items(path: readonly string[]): void {
    this.#at += 1
    if (this.#closes(']')) {
      this.fields.push({ path, value: [] })
      return
    }
    do this.value([...path, '*'])
    while (this.#goesOn(']'))
  }

  #string(): string {
    return JSON.parse(this.#match(/"(?:[^"\\]|\\.)*"/y)) as string
  }

  #closes(end: string): boolean {
    if (this.#peek() !== end) return false
    this.#at += 1
    return true
  }

  #goesOn(end: string): boolean {
    const mark = this.#peek()
    this.#at += 1
    return mark !== end
  }

  /** The next character that is not white space, which stays. */
  #peek(): string {
    this.#match(/\s*/y)
    return this.#text[this.#at] ?? ''
  }

  #match(pattern: RegExp): string {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#text)?.[0] ?? ''
    this.#at += found.length
    return found
  }
}
