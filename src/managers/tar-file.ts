/** The engine's archive calls give one file as a tar of one entry. */
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { extract } from 'tar-stream'

export interface TarFile {
  bytes: number
  /** Read or destroyed, it lets go of the tar. */
  content: Readable
}

/** Size and content of the regular file that a tar begins with; undefined where it begins with another thing. */
export async function firstFile(tar: Readable): Promise<TarFile | undefined> {
  const entries = extract()
  tar.on('error', (error) => entries.destroy(error))
  tar.pipe(entries)
  const { value: entry, done } = await entries[Symbol.asyncIterator]().next()
  if (done || entry === undefined || entry.header.type !== 'file') {
    tar.destroy()
    return undefined
  }
  const content = Readable.from(entry as AsyncIterable<Buffer>)
  content.once('close', () => tar.destroy())
  return { bytes: entry.header.size ?? 0, content }
}

/** Text of the file that a tar begins with; empty where there is none, and where it is larger than `maxBytes`. */
export async function firstText(tar: Readable, maxBytes: number): Promise<string> {
  const file = await firstFile(tar)
  if (file === undefined) return ''
  if (file.bytes <= maxBytes) return text(file.content)
  file.content.destroy()
  return ''
}
