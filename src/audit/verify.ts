import { join } from 'node:path'
import { auditFiles, firstSeqOf, walkFile } from './audit-file.ts'
import { GENESIS, type Link } from './audit-line.ts'

export interface Verdict {
  /** Entries up to the first that is not as it was written; all of them where none is. */
  entries: number
  files: number
  /** Hash of the last of those entries. */
  head: string
  broken: { file: string; line: number; why: string } | undefined
  /** Whether the hash that was asked for is in the chain; undefined where none was. */
  hasHead: boolean | undefined
}

export interface VerifyOptions {
  /** A hash that was the log's head once: it has to be in the chain, or the end was cut off. */
  head?: string | undefined
  /** Hash of the last entry before the first file, where older files were moved away. */
  after?: string | undefined
}

/**
 * Walks through all files of an audit log. It finds any change of what is there. That the end was cut
 * off, or that everything was written anew, shows only by a head that was kept elsewhere.
 */
export async function verify(folder: string, { head, after }: VerifyOptions = {}): Promise<Verdict> {
  const names = await auditFiles(folder)
  let link: Pick<Link, 'hash'> & Partial<Link> = after === undefined ? GENESIS : { hash: after }
  const verdict: Verdict = { entries: 0, files: names.length, head: link.hash, broken: undefined, hasHead: undefined }
  let seen = head === link.hash
  for (const name of names) {
    const walk = await walkFile(join(folder, name), link, ({ hash }) => {
      seen ||= hash === head
    })
    verdict.entries += walk.good
    link = walk.last ?? link
    verdict.head = link.hash
    const fault = walk.broken ?? misnamed(name, walk.first) ?? unfinished(walk)
    if (fault !== undefined) {
      verdict.broken = { file: name, ...fault }
      break
    }
  }
  if (head !== undefined) verdict.hasHead = seen
  return verdict
}

function misnamed(name: string, first: Link | undefined) {
  if (first === undefined || first.seq === firstSeqOf(name)) return undefined
  return { line: 1, why: `it is number ${first.seq}, and the file's name says another` }
}

function unfinished({ trailingBytes, lineEnds }: { trailingBytes: number; lineEnds: number }) {
  if (trailingBytes === 0) return undefined
  return { line: lineEnds + 1, why: 'it is not finished: the service is writing it, or ended while it did' }
}
