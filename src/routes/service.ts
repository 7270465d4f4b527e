import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { Health, Liveness, ServiceInfo } from '../domain/health.ts'
import type { HealthManager } from '../managers/health-manager.ts'
import { VERSION } from '../version.ts'

export const serviceRoutes: FastifyPluginAsyncZod<{ health: HealthManager }> = async (app, { health }) => {
  const tags = ['Service']

  app.get(
    '/',
    {
      config: { access: 'public' },
      schema: {
        tags,
        operationId: 'getService',
        summary: 'What this service is, and where to go',
        response: { 200: ServiceInfo },
      },
    },
    async () => ({
      service: 'container-orchestrator',
      version: VERSION,
      description: 'Safe containers for AI agents: tools, relics and workers on any machine with Docker',
      links: {
        docs: '/docs',
        openapi: '/openapi.json',
        health: '/health',
        tools: '/containers/tool',
        relics: '/containers/relic',
        sessions: '/sessions',
        stats: '/containers/stats',
        metrics: '/metrics',
      },
    }),
  )

  app.get(
    '/health',
    {
      config: { access: { scopes: [] } },
      schema: {
        tags,
        operationId: 'getHealth',
        summary: 'Health of the service and its engine',
        response: {
          200: Health,
          503: { description: 'The engine does not answer', content: { 'application/json': { schema: Health } } },
        },
      },
    },
    async (request, reply) => {
      const { isolation, ...state } = await health.check()
      // How the wall is built is for those who keep it.
      const told = request.caller.scopes.has('admin') ? { isolation } : {}
      return reply.code(state.status === 'unhealthy' ? 503 : 200).send({ ...state, ...told })
    },
  )

  app.get(
    '/livez',
    {
      config: { access: 'public' },
      schema: { tags, operationId: 'getLivez', summary: 'The process serves requests', response: { 200: Liveness } },
    },
    async () => ({ status: 'ok' as const }),
  )

  app.get(
    '/readyz',
    {
      config: { access: 'public' },
      schema: {
        tags,
        operationId: 'getReadyz',
        summary: 'The service takes new work',
        response: {
          200: Liveness,
          503: { description: 'It does not', content: { 'application/json': { schema: Liveness } } },
        },
      },
    },
    async (_request, reply) => {
      const ready = await health.ready()
      return reply.code(ready ? 200 : 503).send({ status: ready ? 'ok' : 'unavailable' })
    },
  )
}
