/** Load for an HTTP server over keep-alive connections, by so little code that the server is the bound. */
import { connect, type Socket } from 'node:net'

const END_OF_HEAD = Buffer.from('\r\n\r\n')

export interface LoadOptions {
  connections: number
  durationMs: number
  signal: AbortSignal
}

/** Answers a second to GETs of a URL, each connection asking again as soon as it was answered. Throws where one is no 200. */
export async function requestsPerSecond(
  url: string,
  { connections, durationMs, signal }: LoadOptions,
): Promise<number> {
  const { hostname, port, pathname } = new URL(url)
  const head = Buffer.from(`GET ${pathname} HTTP/1.1\r\nhost: ${hostname}:${port}\r\n\r\n`)
  const began = performance.now()
  const isOver = () => signal.aborted || performance.now() - began >= durationMs
  const counts = await Promise.all(
    Array.from({ length: connections }, () => asks(connect(Number(port), hostname), head, isOver)),
  )
  signal.throwIfAborted()
  const answers = counts.reduce((sum, count) => sum + count, 0)
  return answers / ((performance.now() - began) / 1000)
}

/** How often one connection was answered. */
function asks(socket: Socket, head: Buffer, isOver: () => boolean): Promise<number> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0)
    let count = 0
    socket.setNoDelay(true)
    socket.on('error', reject)
    socket.on('close', () => resolve(count))
    socket.on('connect', () => socket.write(head))
    socket.on('data', (part) => {
      received = received.length === 0 ? part : Buffer.concat([received, part])
      const length = answerLength(received)
      if (length === undefined || received.length < length) return
      if (received.length > length || !received.subarray(9, 12).equals(Buffer.from('200'))) {
        socket.destroy(new Error(`the server answered ${received.subarray(0, 200).toString()}`))
        return
      }
      received = Buffer.alloc(0)
      count += 1
      if (isOver()) socket.destroy()
      else socket.write(head)
    })
  })
}

/** Bytes of an answer, head and body; undefined while its head is not whole. */
function answerLength(received: Buffer): number | undefined {
  const end = received.indexOf(END_OF_HEAD)
  if (end === -1) return undefined
  const [, length] = /\r\ncontent-length: (\d+)/i.exec(received.toString('latin1', 0, end)) ?? []
  return end + END_OF_HEAD.length + Number(length ?? 0)
}
