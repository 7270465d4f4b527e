/** Tars for tests, made and read back. */
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { extract, type Header, pack } from 'tar-stream'

export interface TarEntry {
  name: string
  type: Header['type']
  mode: number | undefined
  uid: number | undefined
  gid: number | undefined
  linkname: string | null | undefined
  content: Buffer
}

export async function readTar(tar: AsyncIterable<unknown>): Promise<TarEntry[]> {
  const entries: TarEntry[] = []
  const source = Readable.from(tar)
  const unpacked = extract()
  source.on('error', (error) => unpacked.destroy(error))
  source.pipe(unpacked)
  for await (const entry of unpacked) {
    const { name, type, mode, uid, gid, linkname } = entry.header
    entries.push({ name, type, mode, uid, gid, linkname, content: await buffer(entry) })
  }
  return entries
}

/** A tar of these entries, as a caller might send it. */
export async function makeTar(...entries: (Partial<Header> & { name: string; content?: string })[]): Promise<Buffer> {
  const tar = pack()
  for (const { content, ...header } of entries) tar.entry(header, content ?? '')
  tar.finalize()
  return buffer(Readable.from(tar))
}
