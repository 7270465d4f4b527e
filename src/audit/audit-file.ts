/** The files of the audit log: their names, and a walk through one. */
import { createReadStream } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { checkLine, type Link, MAX_LINE_BYTES } from './audit-line.ts'

const FILE_NAME = /^audit-(\d{12})\.jsonl$/
const NEWLINE = 0x0a

/** The name has the number of the first line, so that names sort as the chain goes. */
export function fileName(firstSeq: number): string {
  return `audit-${String(firstSeq).padStart(12, '0')}.jsonl`
}

export function firstSeqOf(name: string): number {
  return Number(FILE_NAME.exec(name)?.[1])
}

/** Names of the files in a folder, in the order of the chain; throws where there is no such folder. */
export async function auditFiles(folder: string): Promise<string[]> {
  return (await readdir(folder)).filter((name) => FILE_NAME.test(name)).sort()
}

export interface Walk {
  /** Lines that continue the chain, from the first on. */
  good: number
  first: Link | undefined
  /** The last good one. */
  last: Link | undefined
  /** Behind the last line end. */
  trailingBytes: number
  /** Line ends in all of the file. */
  lineEnds: number
  /** The first line that is not as it was written. */
  broken: { line: number; why: string } | undefined
  bytes: number
}

/** Reads a file from its first line to its last. `before` undefined: it may continue anything. */
export async function walkFile(
  path: string,
  before: (Pick<Link, 'hash'> & Partial<Link>) | undefined,
  onLink: (link: Link) => void = () => {},
): Promise<Walk> {
  const walk: Walk = {
    good: 0,
    first: undefined,
    last: undefined,
    trailingBytes: 0,
    lineEnds: 0,
    broken: undefined,
    bytes: 0,
  }
  const take = (line: Buffer) => {
    walk.lineEnds += 1
    if (walk.broken !== undefined) return
    const link = checkLine(line, walk.last ?? before)
    if (typeof link === 'string') {
      walk.broken = { line: walk.lineEnds, why: link }
      return
    }
    walk.good += 1
    walk.first ??= link
    walk.last = link
    onLink(link)
  }
  let carry: Buffer[] = []
  let carried = 0
  for await (const chunk of createReadStream(path, { highWaterMark: 256 * 1024 }) as AsyncIterable<Buffer>) {
    walk.bytes += chunk.length
    let from = 0
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      const piece = chunk.subarray(from, end)
      take(carried === 0 ? piece : Buffer.concat([...carry, piece]))
      carry = []
      carried = 0
      walk.trailingBytes = 0
      from = end + 1
    }
    const rest = chunk.subarray(from)
    walk.trailingBytes += rest.length
    // What is longer than any line is known for broken by its first part.
    if (rest.length > 0 && carried <= MAX_LINE_BYTES) {
      carry.push(rest)
      carried += rest.length
    }
  }
  return walk
}
