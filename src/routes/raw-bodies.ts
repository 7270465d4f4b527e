import type { FastifyInstance } from 'fastify'

/** In the plugin that calls it, bodies are content, whatever they call themselves: they pass as streams, of any size. */
export function passBodies(app: Pick<FastifyInstance, 'removeAllContentTypeParsers' | 'addContentTypeParser'>): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { bodyLimit: Number.MAX_SAFE_INTEGER }, (_request, payload, done) =>
    done(null, payload),
  )
}
