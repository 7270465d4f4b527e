/** Ends what a caller has open once the key or token that it came with counts no more. */
import type { Socket } from 'node:net'
import fp from 'fastify-plugin'
import { messageOf } from '../errors.ts'
import { type Authenticator, bearerOf } from './access.ts'

export interface RevocationOptions {
  authenticator: Authenticator | undefined
  everyMs?: number
}

/** With the time until a change of the keys file is seen, a revocation counts within a second. */
const EVERY_MS = 500

/**
 * A call is let in once, and may go on for days: events, followed logs, WebSockets, runs that are waited
 * for. So whoever has a call open is asked for again and again; what was begun goes on, its connection
 * ends. Register it behind access.ts.
 */
export const revocation = fp<RevocationOptions>(async (app, { authenticator, everyMs = EVERY_MS }) => {
  if (authenticator === undefined) return
  const open = new Map<string, Set<{ socket: Socket }>>()

  app.addHook('onRequest', async (request, reply) => {
    const bearer = bearerOf(request)
    if (bearer === undefined || request.caller.keyId === null) return
    const calls = open.get(bearer) ?? new Set()
    const call = { socket: request.raw.socket }
    calls.add(call)
    open.set(bearer, calls)
    const lasting = request.upgradedSocket ?? reply.raw
    lasting.once('close', () => {
      calls.delete(call)
      if (calls.size === 0 && open.get(bearer) === calls) open.delete(bearer)
    })
  })

  const look = async () => {
    for (const [bearer, calls] of [...open]) {
      if ((await authenticator.authenticate(bearer)) !== undefined) continue
      for (const { socket } of calls) socket.destroy()
    }
  }
  let looking = false
  const timer = setInterval(async () => {
    if (looking) return
    looking = true
    await look().catch((error: unknown) => {
      app.log.error(
        { event: 'keys.unchecked', error: messageOf(error) },
        'open calls were not checked for revoked keys',
      )
    })
    looking = false
  }, everyMs).unref()
  app.addHook('onClose', async () => clearInterval(timer))
})
