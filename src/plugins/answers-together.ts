/**
 * Answers that are ready in one turn of the event loop go out together, at its end. A caller who waits for
 * several is woken by the first and finds the others; to wake it for each takes the kernel longer than
 * most reads take the service.
 */
import fp from 'fastify-plugin'

/** So many do not wait for more: under load a turn is long. */
const MOST = 16

/** Register it behind whatever else holds an answer back. */
export const answersTogether = fp(async (app) => {
  let ready: (() => void)[] = []
  let endOfTurn: NodeJS.Immediate | undefined
  const send = () => {
    clearImmediate(endOfTurn)
    const answers = ready
    ready = []
    for (const answer of answers) answer()
  }
  app.addHook('onSend', (_request, _reply, payload, done) => {
    // Nobody listens yet to a stream that breaks.
    if (isStream(payload)) return done(null, payload)
    ready.push(() => {
      try {
        done(null, payload)
      } catch (error) {
        // What cannot be sent, like a header with a line break, is answered as a fault; nobody above would catch it.
        done(error as Error)
      }
    })
    if (ready.length === 1) endOfTurn = setImmediate(send)
    if (ready.length === MOST) send()
  })
})

function isStream(payload: unknown): boolean {
  return typeof payload === 'object' && payload !== null && !Buffer.isBuffer(payload)
}
