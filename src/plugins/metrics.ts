import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from '@prometheus-io/client'
import fp from 'fastify-plugin'
import { z } from 'zod'

export interface MetricsOptions {
  /** Read at each scrape. */
  counts: () => { tools_queued: number; tools_running: number; relics: number }
}

/** Prometheus metrics of the process, its requests and its containers, at `/metrics`. */
export const metrics = fp<MetricsOptions>(async (app, { counts }) => {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const requests = new Counter({
    name: 'co_http_requests_total',
    help: 'Requests answered',
    labelNames: ['method', 'route', 'status'],
    registers: [registry],
  })
  const durations = new Histogram({
    name: 'co_http_request_duration_seconds',
    help: 'Time from a request to the end of its answer',
    labelNames: ['method', 'route'],
    buckets: [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300],
    registers: [registry],
  })
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

  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'unknown'
    requests.inc({ method: request.method, route, status: String(reply.statusCode) })
    durations.observe({ method: request.method, route }, reply.elapsedTime / 1000)
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
    async (_request, reply) => reply.type(registry.contentType).send(await registry.metrics()),
  )
})
