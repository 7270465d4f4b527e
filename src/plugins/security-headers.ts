/** Headers that keep browsers from making more of an answer than it is, the same on each. */
import fp from 'fastify-plugin'

const HEADERS = Object.entries({
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'origin-agent-cluster': '?1',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-dns-prefetch-control': 'off',
  'x-download-options': 'noopen',
  'x-frame-options': 'SAMEORIGIN',
  'x-permitted-cross-domain-policies': 'none',
  'x-xss-protection': '0',
})

export const securityHeaders = fp(async (app) => {
  app.addHook('onRequest', (_request, reply, done) => {
    for (const [name, value] of HEADERS) reply.header(name, value)
    done()
  })
})
