/** The output of a run or relic as callers read it: a view of its spool. */
import type { ReadLogs } from '../domain/output.ts'
import type { RecordKind, SpoolGap, SpoolRecord } from '../store/spool-format.ts'
import type { Spools } from '../store/spools.ts'

export type LogEvent = SpoolRecord | SpoolGap

export interface LogQuery {
  stream: ReadLogs['stream']
  tail?: number | undefined
  /** Id of the last event that the reader has. */
  after?: number | undefined
  follow?: boolean
  signal?: AbortSignal
}

const STREAMS: Record<ReadLogs['stream'], ReadonlySet<RecordKind>> = {
  all: new Set<RecordKind>(['stdout', 'stderr']),
  stdout: new Set<RecordKind>(['stdout']),
  stderr: new Set<RecordKind>(['stderr']),
}

export class LogReader {
  readonly #spools: Spools

  constructor(spools: Spools) {
    this.#spools = spools
  }

  /** Output, changes of state and gaps, in order; with `follow` until the spool closes. */
  async *events(id: string, query: LogQuery): AsyncGenerator<LogEvent> {
    const wanted = STREAMS[query.stream]
    let skip = 0
    let after = query.after
    if (query.tail !== undefined && after === undefined) {
      const start = await this.#tailStart(id, wanted, query.tail)
      after = start.after
      skip = start.skip
    }
    const kinds = new Set<RecordKind>([...wanted, 'state'])
    const options = { after, kinds, follow: query.follow ?? false, ...(query.signal ? { signal: query.signal } : {}) }
    for await (const event of this.#spools.read(id, options)) {
      if (skip === 0 || event.kind === 'gap' || event.kind === 'state') {
        yield event
        continue
      }
      const { text, skipped } = withoutLines(event.text, skip)
      skip -= skipped
      if (text !== '') yield { ...event, text }
    }
  }

  /** Output alone, as text; a line tells what was dropped. */
  async *text(id: string, query: LogQuery): AsyncGenerator<string> {
    for await (const event of this.events(id, query)) {
      if (event.kind === 'gap') yield `\n[... ${event.bytes} bytes omitted ...]\n`
      else if (event.kind !== 'state') yield event.text
    }
  }

  /** The last lines of all output, as text. */
  async lastLines(id: string, lines: number): Promise<string> {
    let text = ''
    for await (const part of this.text(id, { stream: 'all', tail: lines })) text += part
    return text
  }

  /** Position behind the last record: every event's id is at most this. */
  end(id: string): Promise<number> {
    return this.#spools.end(id)
  }

  /** Where the last lines begin: the record to read after, and how many line ends to pass over then. */
  async #tailStart(
    id: string,
    kinds: ReadonlySet<RecordKind>,
    lines: number,
  ): Promise<{ after: number; skip: number }> {
    const window: { after: number; newlines: number }[] = []
    let inWindow = 0
    let previous = 0
    let last = ''
    for await (const record of this.#spools.read(id, { kinds })) {
      if (record.kind !== 'gap') {
        const newlines = record.text.split('\n').length - 1
        window.push({ after: previous, newlines })
        inWindow += newlines
        last = record.text
      }
      previous = record.id
      // A record is dropped once those behind it hold every line that is wanted, and the end of the one before.
      while (window[0] !== undefined && inWindow - window[0].newlines > lines) {
        inWindow -= window[0].newlines
        window.shift()
      }
    }
    if (lines === 0) return { after: previous, skip: 0 }
    const total = inWindow + (last === '' || last.endsWith('\n') ? 0 : 1)
    return { after: window[0]?.after ?? previous, skip: Math.max(0, total - lines) }
  }
}

/** Text behind its first line ends, as many as there are up to `lines`, and how many were passed. */
function withoutLines(text: string, lines: number): { text: string; skipped: number } {
  let from = 0
  for (let skipped = 0; skipped < lines; skipped++) {
    const end = text.indexOf('\n', from)
    if (end === -1) return { text: '', skipped }
    from = end + 1
  }
  return { text: text.slice(from), skipped: lines }
}
