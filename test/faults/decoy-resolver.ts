/** A resolver on a private daemon's host that knows a few names, and keeps all that it is asked. */
import { once } from 'node:events'
import type { PrivateDaemon } from './private-daemon.ts'

/** With names and their addresses in JSON, at each of the addresses behind it: prints each name that is asked for, by UDP or TCP. */
const SERVE = `
const [table, ...addresses] = process.argv.slice(1)
const known = JSON.parse(table)
function answer(query) {
  const labels = []
  let at = 12
  for (; query[at] > 0; at += query[at] + 1) labels.push(query.toString('latin1', at + 1, at + 1 + query[at]))
  const name = labels.join('.')
  const type = query.readUInt16BE(at + 1)
  const question = query.subarray(0, at + 5)
  console.log(name)
  const head = Buffer.from(question)
  const found = known[name.toLowerCase()]
  head.writeUInt16BE(found === undefined ? 0x8183 : 0x8180, 2)
  head.fill(0, 6, 12)
  if (found === undefined || type !== 1) return head
  head.writeUInt16BE(1, 6)
  return Buffer.concat([head, Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, ...found.split('.').map(Number)])])
}
let left = addresses.length
for (const address of addresses) {
  const udp = require('node:dgram').createSocket('udp4')
  udp.on('message', (query, { port, address }) => udp.send(answer(query), port, address))
  const tcp = require('node:net').createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', (part) => {
      const reply = answer(part.subarray(2))
      socket.write(Buffer.concat([Buffer.from([reply.length >> 8, reply.length & 255]), reply]))
    })
  })
  udp.bind(53, address, () => tcp.listen(53, address, () => --left === 0 && console.error('listens')))
}
`

export class DecoyResolver {
  #said = ''
  readonly #end: () => void

  private constructor(child: ReturnType<PrivateDaemon['spawn']>) {
    this.#end = () => child.kill('SIGKILL')
    child.stdout.on('data', (part: Buffer) => {
      this.#said += part.toString()
    })
  }

  /** Resolves when it listens. Names are in small letters. */
  static async listen(daemon: PrivateDaemon, addresses: readonly string[], known: Readonly<Record<string, string>>) {
    const child = daemon.spawn(process.execPath, ['-e', SERVE, JSON.stringify(known), ...addresses])
    const resolver = new DecoyResolver(child)
    const [said] = (await Promise.race([
      once(child.stderr, 'data'),
      once(child, 'exit').then(([code]) => [`ended with ${code}`]),
    ])) as [Buffer | string]
    if (!said.toString().includes('listens')) throw new Error(`no decoy resolver: ${said}`)
    return resolver
  }

  /** Each name that it was asked for, once for each query. */
  get asked(): readonly string[] {
    return this.#said.split('\n').filter(Boolean)
  }

  forget(): void {
    this.#said = ''
  }

  close(): void {
    this.#end()
  }
}
