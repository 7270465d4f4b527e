import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { problems } from '../domain/problem.ts'
import { CleanupNetworks, CleanupOrphans, CleanupReport, CleanupSession } from '../domain/session.ts'
import type { NetworkManager } from '../managers/network-manager.ts'
import type { Reconciler } from '../managers/reconciler.ts'
import type { SessionManager } from '../managers/session-manager.ts'

export interface CleanupRoutesOptions {
  sessions: SessionManager
  networks: NetworkManager
  reconciler: Reconciler
}

export const cleanupRoutes: FastifyPluginAsyncZod<CleanupRoutesOptions> = async (
  app,
  { sessions, networks, reconciler },
) => {
  const tags = ['Cleanup']
  const response = { 200: CleanupReport, ...problems(400, 503) }

  app.post(
    '/containers/cleanup/session',
    {
      config: {
        access: {
          scopes: ['run', 'relic', 'worker', 'cleanup'],
          owns: [{ kind: 'session', in: 'body', field: 'session_id', mayBeNew: true }],
        },
      },
      schema: {
        tags,
        operationId: 'cleanupSession',
        summary: 'End all that a session has; may be repeated',
        body: CleanupSession,
        response,
      },
    },
    async (request) => {
      const { session_id, force, dry_run } = request.body
      return sessions.cleanup(session_id, { force, dryRun: dry_run, caller: request.caller })
    },
  )

  app.post(
    '/containers/cleanup/all-networks',
    {
      config: { access: { scopes: ['cleanup'], reach: 'all' } },
      schema: {
        tags,
        operationId: 'cleanupNetworks',
        summary: 'Remove the session networks that have no containers',
        body: CleanupNetworks.nullish().transform((body) => body ?? CleanupNetworks.parse({})),
        response,
      },
    },
    async (request) => {
      const { force, dry_run } = request.body
      const { removed, errors } = await networks.removeAll({ force, dryRun: dry_run })
      return { containers_removed: 0, networks_removed: removed, volumes_removed: 0, tools_cancelled: 0, errors }
    },
  )

  app.post(
    '/containers/cleanup/orphans',
    {
      config: { access: { scopes: ['cleanup'], reach: 'all' } },
      schema: {
        tags,
        operationId: 'cleanupOrphans',
        summary: 'Remove managed containers, networks and volumes that no record claims',
        body: CleanupOrphans.nullish().transform((body) => body ?? CleanupOrphans.parse({})),
        response,
      },
    },
    async (request) => reconciler.reconcile({ dryRun: request.body.dry_run }),
  )
}
