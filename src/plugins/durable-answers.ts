import fp from 'fastify-plugin'

export interface DurableAnswersOptions {
  /** Resolves once all that was written before is on the disk. */
  synced: () => Promise<void>
}

const READS = new Set(['GET', 'HEAD', 'OPTIONS'])

/** What a call has changed is on the disk before its answer says so; where the disk does not take it, it is refused. */
export const durableAnswers = fp<DurableAnswersOptions>(async (app, { synced }) => {
  app.addHook('onSend', (request, reply, payload, done) => {
    // A refusal promises nothing.
    if (READS.has(request.method) || reply.statusCode >= 400) done(null, payload)
    else synced().then(() => done(null, payload), done)
  })
})
