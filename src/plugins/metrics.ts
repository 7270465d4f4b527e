import type { Registry } from '@prometheus-io/client'
import fp from 'fastify-plugin'
import { z } from 'zod'
import { RequestCounts } from './request-counts.ts'

export interface MetricsOptions {
  /** Read at each scrape. */
  counts: () => { tools_queued: number; tools_running: number; relics: number }
}

/** Prometheus metrics of the process, its requests and its containers, at `/metrics`. */
export const metrics = fp<MetricsOptions>(async (app, { counts }) => {
  const requests = new RequestCounts()
  let registry: Promise<Registry> | undefined

  app.addHook('onResponse', (request, reply, done) => {
    const { method, routeOptions } = request
    const { statusCode: status, elapsedTime } = reply
    requests.add({ method, route: routeOptions.url ?? 'unknown', status, seconds: elapsedTime / 1000 })
    done()
  })
  app.get(
    '/metrics',
    {
      config: { access: { scopes: ['metrics', 'admin'] } },
      schema: {
        tags: ['Service'],
        summary: 'Prometheus metrics',
        operationId: 'metrics',
        response: { 200: { description: 'The metrics', content: { 'text/plain': { schema: z.string() } } } },
      },
    },
    async (_request, reply) => {
      registry ??= processRegistry(counts)
      const ofProcess = await registry
      return reply.type(ofProcess.contentType).send((await ofProcess.metrics()) + requests.text())
    },
  )
})

/** Made with the first scrape: what measures the process is a tenth of it, and many are never scraped. */
async function processRegistry(counts: MetricsOptions['counts']): Promise<Registry> {
  const { collectDefaultMetrics, Gauge, Registry } = await import('@prometheus-io/client')
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const containers = new Gauge({
    name: 'co_containers',
    help: 'Tool runs that wait and run, and relics that have a container',
    labelNames: ['state'],
    registers: [registry],
    collect() {
      for (const [state, count] of Object.entries(counts())) this.set({ state }, count)
    },
  })
  void containers
  return registry
}
