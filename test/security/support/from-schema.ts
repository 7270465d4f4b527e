/** Requests out of an OpenAPI document: what it allows, what nearly does, and what it never would. */
import fc from 'fast-check'

/** JSON Schema as the document has it. */
export interface Schema {
  $ref?: string
  type?: string | readonly string[]
  enum?: readonly unknown[]
  const?: unknown
  anyOf?: readonly Schema[]
  oneOf?: readonly Schema[]
  allOf?: readonly Schema[]
  properties?: Readonly<Record<string, Schema>>
  required?: readonly string[]
  additionalProperties?: boolean | Schema
  propertyNames?: Schema
  items?: Schema
  minItems?: number
  maxItems?: number
  minimum?: number
  maximum?: number
  exclusiveMinimum?: number
  minLength?: number
  maxLength?: number
  pattern?: string
}

export interface FromSchema {
  /** Named schemas of the document. */
  components: Readonly<Record<string, Schema>>
  /** Values of fields by their names, where the schema alone would make nothing of interest, or take too long. */
  fields: Readonly<Record<string, (allowed: fc.Arbitrary<unknown>) => fc.Arbitrary<unknown>>>
}

/** Any code point, half surrogates and all: fast-check's own `binary` makes a map of all of them for each use. */
const CODE_POINT = fc.integer({ min: 0, max: 0x10ffff }).map((code) => String.fromCodePoint(code))

/** Text of any code points. */
export function anyText(maxLength: number, minLength = 0): fc.Arbitrary<string> {
  return fc.array(CODE_POINT, { minLength, maxLength }).map((points) => points.join(''))
}

/** Any JSON value, with keys and words that mean something to somebody. */
export const ANYTHING: fc.Arbitrary<unknown> = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom<unknown>(
    null,
    '',
    '\0',
    '__proto__',
    '../..',
    '\ud800',
    'ﬁ\u202e',
    -0,
    -1,
    1e308,
    2 ** 53,
    0.1,
    [],
    {},
    [[[]]],
    'NaN',
    '0x10',
    '1e3',
    'true',
    '%00',
    '\r\nX: y',
    'x'.repeat(5_000),
    { HostConfig: { Privileged: true } },
    { constructor: { prototype: {} } },
    { toString: null, valueOf: null, length: -1 },
  ),
)

/** What the schema allows, and one time in `oddness` something else, at any depth. */
export function arbitraryOf(schema: Schema, given: FromSchema, oddness: number): fc.Arbitrary<unknown> {
  const allowed = allowedBy(schema, given, oddness)
  return oddness === 0
    ? allowed
    : fc.oneof({ arbitrary: allowed, weight: oddness - 1 }, { arbitrary: ANYTHING, weight: 1 })
}

function allowedBy(schema: Schema, given: FromSchema, oddness: number): fc.Arbitrary<unknown> {
  const inner = (child: Schema) => arbitraryOf(child, given, oddness)
  if (schema.$ref !== undefined) {
    const name = schema.$ref.split('/').at(-1) ?? ''
    const found = given.components[name]
    if (found === undefined) throw new Error(`the document has no ${schema.$ref}`)
    return allowedBy(found, given, oddness)
  }
  if (schema.const !== undefined) return fc.constant(schema.const)
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum)
  const choices = schema.anyOf ?? schema.oneOf
  if (choices !== undefined) return fc.oneof(...choices.map(inner))
  if (schema.allOf !== undefined)
    return fc.tuple(...schema.allOf.map(inner)).map((parts) => Object.assign({}, ...parts))
  const types = [schema.type ?? []].flat()
  if (types.length > 1) return fc.oneof(...types.map((type) => allowedBy({ ...schema, type }, given, oddness)))
  switch (types[0]) {
    case 'string':
      return textOf(schema)
    case 'integer':
      return fc.integer({ min: schema.minimum ?? -5, max: Math.min(schema.maximum ?? 1_000, 2 ** 31 - 1) })
    case 'number': {
      const min = schema.minimum ?? schema.exclusiveMinimum ?? -5
      return fc.double({ min, max: schema.maximum ?? 1_000, noNaN: true })
    }
    case 'boolean':
      return fc.boolean()
    case 'null':
      return fc.constant(null)
    case 'array': {
      const limits = { minLength: schema.minItems ?? 0, maxLength: Math.min(schema.maxItems ?? 3, 3) }
      return fc.array(inner(schema.items ?? {}), limits)
    }
    case 'object':
      return objectOf(schema, given, oddness)
    default:
      return ANYTHING
  }
}

function objectOf(schema: Schema, given: FromSchema, oddness: number): fc.Arbitrary<unknown> {
  const required = new Set(schema.required ?? [])
  const names = Object.entries(schema.properties ?? {})
  const known = names.map(([name, child]): [string, fc.Arbitrary<unknown>] => [
    name,
    (given.fields[name] ?? ((allowed) => allowed))(arbitraryOf(child, given, oddness)),
  ])
  // One time in many a required field is missing, and an unknown one is there.
  const keep = known.map(([name]) => name).filter((name) => required.has(name))
  const record = fc.record(Object.fromEntries(known), { requiredKeys: keep, noNullPrototype: true })
  const { additionalProperties: more } = schema
  const others =
    typeof more === 'object'
      ? fc.dictionary(keyOf(schema.propertyNames, oddness), arbitraryOf(more, given, oddness), {
          maxKeys: 3,
          noNullPrototype: true,
        })
      : fc.constant({})
  if (oddness === 0) return fc.tuple(record, others).map(([a, b]) => ({ ...b, ...a }))
  const strange = fc.oneof(
    { arbitrary: fc.constant(undefined), weight: 9 },
    { arbitrary: fc.tuple(fc.string(), ANYTHING), weight: 1 },
  )
  const dropped = fc.oneof({ arbitrary: fc.constant(undefined), weight: 19 }, { arbitrary: fc.nat(), weight: 1 })
  return fc.tuple(record, others, strange, dropped).map(([a, b, extra, drop]) => {
    const made: Record<string, unknown> = { ...b, ...a }
    if (extra !== undefined)
      Object.defineProperty(made, extra[0], { value: extra[1], enumerable: true, configurable: true, writable: true })
    const keys = Object.keys(made)
    if (drop !== undefined && keys.length > 0) delete made[keys[drop % keys.length] ?? '']
    return made
  })
}

function keyOf(names: Schema | undefined, oddness: number): fc.Arbitrary<string> {
  const free = fc.string({ minLength: 1, maxLength: 12 })
  if (names === undefined) return free
  const allowed = textOf(names)
  return oddness === 0 ? allowed : fc.oneof({ arbitrary: allowed, weight: oddness }, { arbitrary: free, weight: 1 })
}

/** By pattern and lengths: a pattern takes long to read, and many fields share one. */
const texts = new Map<string, fc.Arbitrary<string>>()

function textOf({ pattern, minLength = 0, maxLength = 40 }: Schema): fc.Arbitrary<string> {
  const key = JSON.stringify([pattern, minLength, maxLength])
  const made = texts.get(key) ?? textLike(pattern, minLength, Math.min(maxLength, 40))
  texts.set(key, made)
  return made
}

function textLike(pattern: string | undefined, minLength: number, maxLength: number): fc.Arbitrary<string> {
  const free = anyText(maxLength, minLength)
  if (pattern === undefined) return free
  try {
    return fc.oneof(
      { arbitrary: fc.stringMatching(new RegExp(pattern), { size: 'small' }), weight: 50 },
      { arbitrary: free, weight: 1 },
    )
  } catch {
    // A pattern with look-around: its fields are given by name, or are garbage.
    return free
  }
}
