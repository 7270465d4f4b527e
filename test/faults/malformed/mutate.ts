/** Golden replies of an engine, and what a seeded generator makes of them. */
import type { Random } from '../../support/random.ts'
import type { WireReply } from './engine-player.ts'

export interface Frame {
  type: number
  bytes: Buffer
}

export type Body =
  | { kind: 'none' }
  | { kind: 'json'; value: unknown }
  | { kind: 'lines'; values: readonly unknown[] }
  | { kind: 'frames'; frames: readonly Frame[] }
  | { kind: 'bytes'; bytes: Buffer }

export interface Golden {
  status: number
  body: Body
  /** Of the header X-Docker-Container-Path-Stat. */
  stat?: unknown
  /** The connection becomes the body, in both directions. */
  upgrade?: true
  /** Headers without a body follow a HEAD. */
  head?: true
}

/** What a client was sent, as this side knows it: the measure of what it may conclude. */
export interface Delivered {
  /** What was done to the golden reply. */
  fault: string
  /** Undefined where no status line can be read. */
  status: number | undefined
  /** The reply arrived as long as it was announced, and in well-formed chunks or frames. */
  whole: boolean
  /** The values of a JSON body, one for each line; undefined where a part of it is not JSON. */
  values: readonly unknown[] | undefined
  stat: unknown
  /** The plain body or the frames. */
  bytes: Buffer | undefined
  /** What came of its body, whatever its form. */
  body: Buffer
}

export interface Reply {
  wire: WireReply
  delivered: Delivered
}

interface Draft {
  status: number
  body: Buffer
  framing: 'length' | 'chunked' | 'none'
  contentType: string | undefined
  stat: string | undefined
  golden: Golden
}

/** The reply as an engine sends it. */
export function golden(reply: Golden): Reply {
  return whole('none', draftOf(reply))
}

/** The reply with one thing wrong. */
export function mutated(reply: Golden, random: Random): Reply {
  const kinds: [weight: number, mutate: (reply: Golden, random: Random) => Reply | undefined][] = [
    [45, withWrongValue],
    [12, withWrongText],
    [10, withWrongStatus],
    [10, withWrongHead],
    [10, cutShort],
    [1, pending],
    [reply.body.kind === 'frames' ? 60 : 0, withWrongFrames],
    [reply.body.kind === 'lines' ? 30 : 0, withWrongLines],
  ]
  const total = kinds.reduce((sum, [weight]) => sum + weight, 0)
  for (;;) {
    let left = random.next() * total
    const [, mutate] = kinds.find(([weight]) => {
      left -= weight
      return left < 0
    }) ?? [0, withWrongHead]
    const made = mutate(reply, random)
    if (made !== undefined) return made
  }
}

function draftOf(reply: Golden): Draft {
  const { body } = reply
  const bytes =
    body.kind === 'json'
      ? Buffer.from(`${JSON.stringify(body.value)}\n`)
      : body.kind === 'lines'
        ? Buffer.from(body.values.map((value) => `${JSON.stringify(value)}\r\n`).join(''))
        : body.kind === 'frames'
          ? Buffer.concat(body.frames.map(frame))
          : body.kind === 'bytes'
            ? body.bytes
            : Buffer.alloc(0)
  const isJson = body.kind === 'json' || body.kind === 'lines'
  return {
    status: reply.status,
    body: bytes,
    framing:
      reply.upgrade || reply.head || reply.status === 204
        ? 'none'
        : body.kind === 'lines' || body.kind === 'frames'
          ? 'chunked'
          : 'length',
    contentType: isJson ? 'application/json' : reply.upgrade ? 'application/vnd.docker.raw-stream' : undefined,
    stat: reply.stat === undefined ? undefined : Buffer.from(JSON.stringify(reply.stat)).toString('base64'),
    golden: reply,
  }
}

function deliveredOf(fault: string, draft: Draft, change: Partial<Delivered> = {}): Delivered {
  const { kind } = draft.golden.body
  const { status } = draft
  return {
    fault,
    status,
    whole: true,
    values: kind === 'json' ? valuesOf([draft.body]) : kind === 'lines' ? valuesOf(linesOf(draft.body)) : undefined,
    stat:
      draft.stat === undefined
        ? undefined
        : valuesOf([Buffer.from(Buffer.from(draft.stat, 'base64').toString('utf8'))])?.[0],
    bytes: kind === 'frames' || kind === 'bytes' ? draft.body : undefined,
    body: draft.body,
    ...change,
  }
}

function linesOf(body: Buffer): Buffer[] {
  return body
    .toString('utf8')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .map((line) => Buffer.from(line))
}

function valuesOf(texts: readonly Buffer[]): unknown[] | undefined {
  try {
    return texts.map((text) => JSON.parse(text.toString('utf8')) as unknown)
  } catch {
    return undefined
  }
}

function frame({ type, bytes }: Frame): Buffer {
  const header = Buffer.alloc(8)
  header[0] = type
  header.writeUInt32BE(bytes.length, 4)
  return Buffer.concat([header, bytes])
}

function headOf(draft: Draft, extra: readonly string[] = []): string {
  const { status, golden: reply } = draft
  const lines = [
    `HTTP/1.1 ${status} ${status === 101 ? 'UPGRADED' : 'Some Reason'}`,
    'Api-Version: 1.41',
    ...(draft.contentType === undefined ? [] : [`Content-Type: ${draft.contentType}`]),
    'Docker-Experimental: false',
    'Server: Docker/20.10.24+dfsg1 (linux)',
    ...(draft.stat === undefined ? [] : [`X-Docker-Container-Path-Stat: ${draft.stat}`]),
    ...(reply.upgrade && status === 101 ? ['Connection: Upgrade', 'Upgrade: tcp'] : []),
    ...(draft.framing === 'length' ? [`Content-Length: ${draft.body.length}`] : []),
    ...(draft.framing === 'chunked' ? ['Transfer-Encoding: chunked'] : []),
    ...extra,
  ]
  return `${lines.join('\r\n')}\r\n\r\n`
}

function chunk(bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')])
}

const LAST_CHUNK = Buffer.from('0\r\n\r\n')

function bodyOf({ framing, body }: Draft): Buffer {
  if (framing !== 'chunked') return body
  return Buffer.concat([...(body.length > 0 ? [chunk(body)] : []), LAST_CHUNK])
}

function wireOf(draft: Draft, extra: readonly string[] = []): Buffer {
  return Buffer.concat([Buffer.from(headOf(draft, extra)), bodyOf(draft)])
}

/** A whole reply; an upgraded connection ends with its output, as it does behind a process. */
function whole(fault: string, draft: Draft, change: Partial<Delivered> = {}): Reply {
  return {
    wire: { parts: [wireOf(draft)], after: draft.golden.upgrade ? 'end' : 'keep' },
    delivered: deliveredOf(fault, draft, change),
  }
}

// --- Values -------------------------------------------------------------------------------------

/** Stands in a tree for what JSON.stringify cannot write. */
const RAW = '@raw@'

const WRONG: readonly (() => unknown)[] = [
  () => null,
  () => true,
  () => 'garbage',
  () => '',
  () => 0,
  () => -1,
  () => 1.5,
  () => 2 ** 53,
  () => 1e308,
  () => `${RAW}1e999${RAW}`,
  () => `${RAW}-0${RAW}`,
  () => `${RAW}${'9'.repeat(400)}${RAW}`,
  () => [],
  () => ({}),
  () => [null],
  () => ({ garbage: {} }),
  () => 'f'.repeat(63),
  () => 'F'.repeat(64),
  () => 'e'.repeat(64),
  () => `sha256:${'g'.repeat(64)}`,
  () => '../../containers/json?',
  () => 'a\u0000b\r\nX-Injected: 1',
  () => '\ud800',
  () => 'x'.repeat(100_000),
  () => '2026-99-99T99:99:99Z',
  () => '0001-01-01T00:00:00Z',
  () => '+275761-01-01T00:00:00Z',
  // What String() and template literals cannot turn into text.
  () => ({ toString: null, valueOf: null, toJSON: 1 }),
  () => `${RAW}{"__proto__":{"Id":"x","error":"x"},"constructor":{"prototype":null}}${RAW}`,
  () => `${RAW}${'['.repeat(5_000)}${']'.repeat(5_000)}${RAW}`,
  () => `${RAW}${'{"a":'.repeat(5_000)}1${'}'.repeat(5_000)}${RAW}`,
]

function withWrongValue(reply: Golden, random: Random): Reply | undefined {
  const { body } = reply
  if (reply.stat !== undefined && random.next() < 0.7) {
    const { value, what } = changed(reply.stat, random)
    const draft = { ...draftOf(reply), stat: Buffer.from(jsonText(value)).toString('base64') }
    // Beyond what a head may hold, no client takes it.
    if (draft.stat.length > 12_000) return undefined
    return whole(`stat ${what}`, draft)
  }
  if (body.kind === 'json') {
    const { value, what } = changed(body.value, random)
    return whole(what, { ...draftOf(reply), body: Buffer.from(jsonText(value)) })
  }
  if (body.kind === 'lines') {
    const at = random.between(0, body.values.length - 1)
    const { value, what } = changed(body.values[at], random)
    const lines = body.values.map((line, index) => jsonText(index === at ? value : line))
    return whole(`line ${at}: ${what}`, { ...draftOf(reply), body: Buffer.from(`${lines.join('\n')}\n`) })
  }
  return undefined
}

function jsonText(value: unknown): string {
  // What stands between two marks is written as it is; the marks are JSON strings of their own.
  return JSON.stringify(value).replace(/"@raw@(.*?)@raw@"/g, (_, raw: string) => JSON.parse(`"${raw}"`) as string)
}

/** A tree with one value of it replaced or left out. */
function changed(tree: unknown, random: Random): { value: unknown; what: string } {
  const paths = pathsOf(tree)
  const path = paths[random.between(0, paths.length - 1)] ?? []
  const drop = path.length > 0 && random.next() < 0.25
  const make = WRONG[random.between(0, WRONG.length - 1)] ?? (() => null)
  const wrong = make()
  const what = `${path.join('.') || 'root'} ${drop ? 'left out' : `= ${JSON.stringify(wrong).slice(0, 60)}`}`
  return { value: replaced(tree, path, drop ? undefined : wrong), what }
}

function pathsOf(tree: unknown, path: readonly string[] = []): string[][] {
  const inner = typeof tree === 'object' && tree !== null ? Object.entries(tree) : []
  return [[...path], ...inner.flatMap(([key, value]) => pathsOf(value, [...path, key]))]
}

function replaced(tree: unknown, [key, ...rest]: readonly string[], value: unknown): unknown {
  if (key === undefined) return value
  if (Array.isArray(tree)) {
    const index = Number(key)
    if (rest.length === 0 && value === undefined) return tree.filter((_, at) => at !== index)
    return tree.map((item: unknown, at) => (at === index ? replaced(item, rest, value) : item))
  }
  const entries = Object.entries(tree as Record<string, unknown>)
  return Object.fromEntries(
    entries.flatMap(([name, item]) => {
      if (name !== key) return [[name, item]]
      const next = replaced(item, rest, value)
      return rest.length === 0 && next === undefined ? [] : [[name, next]]
    }),
  )
}

// --- Text ---------------------------------------------------------------------------------------

function withWrongText(reply: Golden, random: Random): Reply | undefined {
  const draft = draftOf(reply)
  if (reply.stat !== undefined) {
    const stat = ['', '!!!!', 'bnVsbA==', 'e30=', draft.stat?.slice(0, random.between(1, 60)) ?? '', '%00', 'W10='][
      random.between(0, 6)
    ]
    return whole(`stat header ${stat}`, { ...draft, stat: stat ?? '' })
  }
  if (draft.body.length === 0 || reply.body.kind === 'frames' || reply.body.kind === 'bytes') return undefined
  const text = draft.body.toString('utf8')
  const at = random.between(0, text.length - 2)
  const options: [string, Buffer][] = [
    ['text ends early', Buffer.from(text.slice(0, at))],
    ['a wrong character', Buffer.from(`${text.slice(0, at)}\u0001${text.slice(at + 1)}`)],
    ['a byte order mark', Buffer.from(`\ufeff${text}`)],
    ['text behind it', Buffer.from(`${text.trimEnd()}}{"message":"x"}`)],
    ['not a word of JSON', Buffer.from('<html><body>502 Bad Gateway</body></html>')],
    ['NaN', Buffer.from(text.replace(/":(\d+|true|false|null)/, '":NaN'))],
    ['nothing', Buffer.alloc(0)],
    ['binary', noise(random, random.between(1, 400))],
    ['broken UTF-8', Buffer.concat([Buffer.from(text.slice(0, at)), Buffer.from([0xff, 0xc0, 0x80])])],
    ['NUL bytes', Buffer.alloc(random.between(1, 4096))],
  ]
  const [fault, body] = options[random.between(0, options.length - 1)] ?? ['nothing', Buffer.alloc(0)]
  const split = Math.floor(body.length / 2)
  const made = whole(fault, { ...draft, body })
  // Some arrive in two reads, cut at any byte.
  if (draft.framing !== 'length' || random.next() < 0.5) return made
  const head = Buffer.from(headOf({ ...draft, body }))
  return { ...made, wire: { parts: [head, body.subarray(0, split), body.subarray(split)], after: 'keep' } }
}

function noise(random: Random, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => random.between(0, 255)))
}

// --- Status -------------------------------------------------------------------------------------

const STATUSES = [
  200, 201, 202, 203, 204, 205, 206, 226, 300, 301, 302, 304, 307, 400, 401, 403, 404, 404, 404, 405, 408, 409, 409,
  410, 418, 422, 429, 451, 500, 500, 501, 502, 503, 504, 507, 599, 600, 799, 999,
]
const MESSAGES: readonly unknown[] = [
  'something happened',
  'No such container: x',
  'is not running',
  'removal of container x is already in progress',
  'Pool overlaps with other one on this address space',
  '',
  null,
  5,
  { toString: null, valueOf: null },
  ['a'],
  'x'.repeat(100_000),
]

function withWrongStatus(reply: Golden, random: Random): Reply {
  const draft = draftOf(reply)
  const status = STATUSES[random.between(0, STATUSES.length - 1)] ?? 500
  const message = MESSAGES[random.between(0, MESSAGES.length - 1)]
  const bodies: [string, Buffer][] = [
    ['its own body', draft.body],
    [`message ${JSON.stringify(message).slice(0, 40)}`, Buffer.from(JSON.stringify({ message }))],
    ['no body', Buffer.alloc(0)],
    ['HTML', Buffer.from('<html>gateway</html>')],
    ['binary', noise(random, 64)],
    ['null', Buffer.from('null')],
  ]
  const [what, body] = bodies[random.between(0, bodies.length - 1)] ?? ['no body', Buffer.alloc(0)]
  const bare = status === 204 || status === 304 || reply.head === true
  const made: Draft = {
    ...draft,
    status,
    body: bare ? Buffer.alloc(0) : body,
    framing: bare ? 'none' : draft.framing === 'none' ? 'length' : draft.framing,
  }
  // 205 has no body for some clients and one for others: nothing may follow it on its connection.
  return {
    wire: { parts: [wireOf(made)], after: status === 205 || reply.upgrade ? 'end' : 'keep' },
    delivered: deliveredOf(`status ${status}, ${what}`, made, bare ? { values: undefined } : {}),
  }
}

// --- Head ---------------------------------------------------------------------------------------

function withWrongHead(reply: Golden, random: Random): Reply {
  const draft = draftOf(reply)
  const text = wireOf(draft).toString('latin1')
  const raw = (fault: string, bytes: string | Buffer, change: Partial<Delivered> = {}): Reply => ({
    wire: { parts: [Buffer.from(bytes as string, 'latin1')], after: 'end' },
    delivered: deliveredOf(fault, draft, { whole: false, ...change }),
  })
  const length = draft.body.length
  const options: (() => Reply)[] = [
    () => raw('noise for a head', noise(random, random.between(1, 2_000)), { status: undefined }),
    () => raw('another protocol', 'SSH-2.0-OpenSSH_9.2\r\n', { status: undefined }),
    () => raw('TLS alert', Buffer.from([0x15, 3, 1, 0, 2, 2, 0x46]), { status: undefined }),
    () => raw('HTTP/9.9', text.replace('HTTP/1.1', 'HTTP/9.9'), { status: undefined }),
    () => raw('a status of letters', text.replace(/^HTTP\/1.1 \d+/, 'HTTP/1.1 abc'), { status: undefined }),
    () => raw('a status of 5 digits', text.replace(/^HTTP\/1.1 \d+/, 'HTTP/1.1 20000'), { status: undefined }),
    () => raw('a header without a colon', text.replace('Api-Version: 1.41', 'Api-Version'), { status: undefined }),
    () => raw('NUL in a header', text.replace('Docker-Experimental: false', 'X: a\u0000b'), { status: undefined }),
    () => raw('a head of 100 KB', text.replace('\r\n\r\n', `\r\nX-Long: ${'x'.repeat(100_000)}\r\n\r\n`)),
    () => raw('3000 headers', text.replace('\r\n\r\n', `\r\n${'X-More: 1\r\n'.repeat(3_000)}\r\n`), { whole: true }),
    () => raw('a length that is none', withLength('abc'), { status: undefined }),
    () => raw('a negative length', withLength('-1'), { status: undefined }),
    () => raw('a huge length', withLength('99999999999999999999'), { status: undefined }),
    () => raw('two lengths', withLength(`${length}\r\nContent-Length: ${length + 5}`), { status: undefined }),
    () => raw('length and chunks', withLength(`${length}\r\nTransfer-Encoding: chunked`), { status: undefined }),
    () =>
      whole('another content type', {
        ...draft,
        contentType: ['text/html', 'image/png', '', 'application/json; charset=utf-16'][random.between(0, 3)],
      }),
    () => ({
      wire: { parts: [wireOf(draft, ['Content-Encoding: gzip'])], after: draft.golden.upgrade ? 'end' : 'keep' },
      delivered: deliveredOf('says it is gzip', draft),
    }),
    () => ({
      wire: {
        parts: [Buffer.from('HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n'), wireOf(draft)],
        after: draft.golden.upgrade ? 'end' : 'keep',
      },
      delivered: deliveredOf('an interim reply before it', draft),
    }),
    () =>
      raw(
        'an upgrade that nobody asked for',
        'HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nzzz',
        {
          status: reply.upgrade ? 101 : undefined,
          bytes: undefined,
        },
      ),
    () => ({
      // Whoever takes what follows for the answer to the next request is told a lie.
      wire: {
        parts: [
          Buffer.concat([wireOf(draft), Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"Id":"lie"}')]),
        ],
        after: reply.upgrade ? 'end' : 'keep',
      },
      delivered: deliveredOf('a second reply behind it', draft, reply.upgrade ? { whole: false } : {}),
    }),
  ]
  // Which bytes are the body is told by the length alone: what claims another one is not whole.
  function withLength(value: string): string {
    const head = headOf({ ...draft, framing: 'none', status: draft.status === 204 ? 200 : draft.status })
    return `${head.replace('\r\n\r\n', `\r\nContent-Length: ${value}\r\n\r\n`)}${draft.body.toString('latin1')}`
  }
  const make = options[random.between(0, options.length - 1)]
  if (make === undefined) throw new Error('no mutation of a head')
  return make()
}

// --- Connection ---------------------------------------------------------------------------------

/** The connection closes before all of the reply is there. */
function cutShort(reply: Golden, random: Random): Reply | undefined {
  const { bytes, at } = cut(reply, random)
  const draft = draftOf(reply)
  const parts = [bytes.subarray(0, at)]
  const after = random.next() < 0.5 ? 'end' : 'cut'
  return {
    wire: { parts: at === 0 ? [] : parts, after },
    delivered: deliveredOf(`closed behind byte ${at} of ${bytes.length}`, draft, {
      whole: false,
      body: bytes.subarray(headOf(draft).length, at),
      ...(at < headOf(draft).length ? { status: undefined } : {}),
    }),
  }
}

/** The reply begins, and its rest never comes. */
function pending(reply: Golden, random: Random): Reply | undefined {
  const { bytes, at } = cut(reply, random)
  const draft = draftOf(reply)
  return {
    wire: { parts: at === 0 ? [] : [bytes.subarray(0, at)], after: 'pend' },
    delivered: deliveredOf(`nothing more behind byte ${at} of ${bytes.length}`, draft, {
      whole: false,
      body: bytes.subarray(headOf(draft).length, at),
      ...(at < headOf(draft).length ? { status: undefined } : {}),
    }),
  }
}

function cut(reply: Golden, random: Random): { bytes: Buffer; at: number } {
  const draft = draftOf(reply)
  const bytes = wireOf(draft)
  const head = headOf(draft).length
  const inBody = bytes.length > head + 1 && random.next() < 0.7
  let at = inBody ? random.between(head, bytes.length - 1) : random.between(0, head - 1)
  // An upgraded connection that ends between two frames is whole, so it is cut inside one.
  if (reply.upgrade && inBody) at = head + 3
  return { bytes, at }
}

// --- Frames and lines ---------------------------------------------------------------------------

function withWrongFrames(reply: Golden, random: Random): Reply | undefined {
  if (reply.body.kind !== 'frames') return undefined
  const draft = draftOf(reply)
  const frames = reply.body.frames
  const before = Buffer.concat(frames.slice(0, random.between(0, frames.length)).map(frame))
  const header = (...bytes: number[]) => Buffer.from(bytes)
  const options: [string, Buffer][] = [
    ['a frame of type 4', header(4, 0, 0, 0, 0, 0, 0, 1, 65)],
    ['a frame of type 255', header(255, 0, 0, 0, 0, 0, 0, 1, 65)],
    ['a frame of 4 GB', header(1, 0, 0, 0, 255, 255, 255, 255, 65)],
    ['a frame longer than what follows', header(1, 0, 0, 0, 0, 0, 0, 9, 65)],
    ['padding that is not 0', header(1, 9, 9, 9, 0, 0, 0, 1, 65)],
    ['half a header', header(1, 0, 0)],
    ['a frame of the error stream', frame({ type: 3, bytes: Buffer.from('grpc: the connection is closing') })],
    ['an empty frame of the error stream', header(3, 0, 0, 0, 0, 0, 0, 0)],
    ['text without frames', Buffer.from('plain text of a tty\r\n')],
    ['noise', Buffer.concat([header(7), noise(random, random.between(8, 300))])],
    ['half a frame of the error stream', header(3, 0, 0, 0, 0, 0, 0, 9, 65)],
  ]
  const [fault, bad] = options[random.between(0, options.length - 1)] ?? ['half a header', header(1)]
  const body = Buffer.concat([before, bad])
  const made = whole(fault, { ...draft, body }, { whole: false })
  if (random.next() < 0.5 || draft.framing === 'chunked') return made
  // Byte by byte at the join, where a header falls into several reads.
  const bytes = wireOf({ ...draft, body })
  const join = bytes.length - bad.length
  const parts = [bytes.subarray(0, join), ...[...bad].slice(0, 12).map((byte) => Buffer.from([byte])), bad.subarray(12)]
  return { ...made, wire: { parts, after: 'end' } }
}

/** Each says that it failed, or is no line of such a stream. */
function withWrongLines(reply: Golden, random: Random): Reply | undefined {
  if (reply.body.kind !== 'lines') return undefined
  const draft = draftOf(reply)
  const { values } = reply.body
  const lines = values.map((value) => JSON.stringify(value))
  const options: [string, string][] = [
    ['an error', '{"errorDetail":{"message":"boom"},"error":"boom"}'],
    ['an error without details', '{"error":"manifest unknown"}'],
    ['the details of an error alone', '{"errorDetail":{"code":1,"message":"boom"}}'],
    ['an error of another type', '{"error":{"message":"boom"}}'],
    ['an error without words', '{"error":""}'],
    ['an error of null', '{"error":null,"errorDetail":{"message":"boom"}}'],
    ['a line that is not JSON', 'panic: runtime error'],
    ['a line cut short', '{"status":"Down'],
    ['a number', '7'],
    ['a list', '[]'],
    ['a line of 5 MB', `{"status":"${'x'.repeat(5 * 1024 * 1024)}"}`],
  ]
  // The long one costs much more than the others.
  const choice = random.next() < 0.01 ? options.length - 1 : random.between(0, options.length - 2)
  const [fault, line] = options[choice] ?? ['a number', '7']
  const at = random.between(0, lines.length)
  const body = Buffer.from(`${[...lines.slice(0, at), line, ...lines.slice(at)].join('\n')}\n`)
  const half = Math.floor(body.length / 2)
  const parts = [Buffer.from(headOf(draft)), chunk(body.subarray(0, half)), chunk(body.subarray(half)), LAST_CHUNK]
  return {
    wire: { parts, after: 'keep' },
    delivered: deliveredOf(`line ${at} of ${lines.length}: ${fault}`, { ...draft, body }),
  }
}
