/** Where one HTTP/1.1 request of a connection ends and the next begins: as much of the protocol as engine clients use. */

export interface RequestHead {
  method: string
  path: string
  /** All header lines as they were sent, without the request line. */
  fields: string
  /** The connection belongs to what follows, in both directions, once it is granted. */
  upgrades: boolean
}

export interface RequestListener {
  onHead(head: RequestHead): void
  onBody(bytes: Buffer): void
  onEnd(): void
}

const HEAD_END = '\r\n\r\n'
const LINE_END = '\r\n'

type State = 'head' | 'sized' | 'chunk-size' | 'chunk' | 'trailer' | 'opaque'

export class RequestParser {
  readonly #listener: RequestListener
  #state: State = 'head'
  #held: Buffer = Buffer.alloc(0)
  /** Bytes of the body or chunk that are still to come. */
  #left = 0
  #upgrades = false

  constructor(listener: RequestListener) {
    this.#listener = listener
  }

  push(bytes: Buffer): void {
    if (this.#state === 'opaque') return
    this.#held = this.#held.length === 0 ? bytes : Buffer.concat([this.#held, bytes])
    while (this.#step());
  }

  /** False where more bytes are needed. */
  #step(): boolean {
    switch (this.#state) {
      case 'head':
        return this.#head()
      case 'sized':
        if (!this.#take()) return false
        this.#end()
        return true
      case 'chunk-size': {
        const line = this.#line(LINE_END)
        if (line === undefined) return false
        const size = Number.parseInt(line, 16)
        // With the line end behind it.
        this.#left = size + LINE_END.length
        this.#state = size === 0 ? 'trailer' : 'chunk'
        return true
      }
      case 'chunk':
        if (!this.#take(LINE_END.length)) return false
        this.#state = 'chunk-size'
        return true
      case 'trailer': {
        const line = this.#line(LINE_END)
        if (line === undefined) return false
        if (line === '') this.#end()
        return true
      }
      case 'opaque':
        return false
    }
  }

  #head(): boolean {
    const text = this.#line(HEAD_END)
    if (text === undefined) return false
    const [requestLine = '', ...fields] = text.split(LINE_END)
    const [method = '', path = ''] = requestLine.split(' ')
    const headers = new Map(
      fields.map((field): [string, string] => {
        const colon = field.indexOf(':')
        return [field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim()]
      }),
    )
    this.#upgrades = headers.has('upgrade')
    this.#listener.onHead({ method, path, fields: fields.join(LINE_END), upgrades: this.#upgrades })
    if (/chunked/i.test(headers.get('transfer-encoding') ?? '')) {
      this.#state = 'chunk-size'
    } else {
      this.#left = Number(headers.get('content-length') ?? 0)
      this.#state = 'sized'
    }
    return true
  }

  #end(): void {
    this.#listener.onEnd()
    this.#state = this.#upgrades ? 'opaque' : 'head'
    if (this.#upgrades) this.#held = Buffer.alloc(0)
  }

  /** Text up to a mark, which is dropped; undefined where the mark has not come yet. */
  #line(mark: string): string | undefined {
    const end = this.#held.indexOf(mark)
    if (end === -1) return undefined
    const text = this.#held.toString('latin1', 0, end)
    this.#held = this.#held.subarray(end + mark.length)
    return text
  }

  /** Takes what has come of the body, of which the last bytes are `framing`; true where that is all. */
  #take(framing = 0): boolean {
    const taken = this.#held.subarray(0, this.#left)
    const content = Math.max(0, Math.min(taken.length, this.#left - framing))
    this.#held = this.#held.subarray(taken.length)
    this.#left -= taken.length
    if (content > 0) this.#listener.onBody(taken.subarray(0, content))
    return this.#left === 0
  }
}
