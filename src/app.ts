import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify'
import { serializerCompiler, validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod'
import type { SessionTokenDesk } from './access/session-tokens.ts'
import type { HealthManager } from './managers/health-manager.ts'
import { type Authenticator, access, type Owners } from './plugins/access.ts'
import { answersTogether } from './plugins/answers-together.ts'
import { type AuditOptions, audit } from './plugins/audit.ts'
import { Connections, connectionBounds } from './plugins/connections.ts'
import { type DurableAnswersOptions, durableAnswers } from './plugins/durable-answers.ts'
import { hostCheck } from './plugins/host-check.ts'
import { DEFAULT_HTTP_LIMITS, HEAD_BYTES, type HttpLimits } from './plugins/http-limits.ts'
import { jsonBody } from './plugins/json-body.ts'
import { type MetricsOptions, metrics } from './plugins/metrics.ts'
import { openapi } from './plugins/openapi.ts'
import { answerFrameworkError, problemDetails } from './plugins/problems.ts'
import { rateLimits } from './plugins/rate-limits.ts'
import { requestBounds } from './plugins/request-bounds.ts'
import { withRequestLogs } from './plugins/request-log.ts'
import { revocation } from './plugins/revocation.ts'
import { securityHeaders } from './plugins/security-headers.ts'
import { streamBounds } from './plugins/stream-bounds.ts'
import { isWebSocket, webSockets } from './plugins/web-sockets.ts'
import { type CleanupRoutesOptions, cleanupRoutes } from './routes/cleanup.ts'
import { type EventRoutesOptions, eventRoutes } from './routes/events.ts'
import { type ExecRoutesOptions, execRoutes } from './routes/execs.ts'
import { type RelicProxyRoutesOptions, relicProxyRoutes } from './routes/relic-proxy.ts'
import { type RelicRoutesOptions, relicRoutes } from './routes/relics.ts'
import { serviceRoutes } from './routes/service.ts'
import { sessionTokenRoutes } from './routes/session-tokens.ts'
import { sessionRoutes } from './routes/sessions.ts'
import { type StatsRoutesOptions, statsRoutes } from './routes/stats.ts'
import { type ToolRoutesOptions, toolRoutes } from './routes/tools.ts'
import { type WorkerFileRoutesOptions, workerFileRoutes } from './routes/worker-files.ts'
import { type WorkerRoutesOptions, workerRoutes } from './routes/workers.ts'

const BODY_BYTES = 1024 * 1024
const REQUESTS_PER_MINUTE = 6_000
const CHECK_CONNECTIONS_MS = 5_000
const CALL_LISTENERS = 30
const LAST_ANSWERS_MS = 2_000
const REQUEST_ID = /^[\x21-\x7e]{1,128}$/

/** What the routes are over. */
export interface AppServices
  extends Omit<ToolRoutesOptions, 'closing'>,
    Omit<RelicRoutesOptions, 'closing'>,
    Omit<RelicProxyRoutesOptions, 'closing'>,
    Omit<StatsRoutesOptions, 'closing'>,
    Omit<WorkerRoutesOptions, 'closing'>,
    Omit<ExecRoutesOptions, 'closing'>,
    Omit<EventRoutesOptions, 'closing'>,
    Omit<WorkerFileRoutesOptions, 'closing'>,
    CleanupRoutesOptions,
    MetricsOptions,
    DurableAnswersOptions {
  health: HealthManager
  owners: Owners
}

/** Keys that are given out, and the desk where tokens are made with them. */
export interface Keys extends Authenticator {
  desk?: SessionTokenDesk
}

export interface AppOptions {
  services: AppServices
  /** Undefined where no keys are given out. */
  keys?: Keys | undefined
  /** Undefined: nobody keeps what was decided. */
  auditLog?: AuditOptions['log']
  /** Of each key that has no limit of its own. */
  requestsPerMinute?: number
  log: FastifyBaseLogger
  /** By which names it is reached, beside addresses and names without a dot; none by default. */
  allowedHosts?: readonly string[]
  /** Where they differ from the defaults. */
  httpLimits?: Partial<HttpLimits>
}

/** The HTTP service over its managers: plugins and routes, no I/O of its own. */
export async function buildApp({
  services,
  keys,
  auditLog,
  requestsPerMinute = REQUESTS_PER_MINUTE,
  allowedHosts = [],
  httpLimits,
  log,
}: AppOptions): Promise<FastifyInstance> {
  const closing = new AbortController()
  const limits = { ...DEFAULT_HTTP_LIMITS, ...httpLimits }
  const connections = new Connections(limits)
  const app = Fastify({
    loggerInstance: withRequestLogs(log),
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'request_id' }),
    bodyLimit: BODY_BYTES,
    http: {
      maxHeaderSize: HEAD_BYTES,
      headersTimeout: limits.headersMs,
      connectionsCheckingInterval: Math.min(limits.headersMs / 2, CHECK_CONNECTIONS_MS),
      // `hostCheck` refuses what has none, with a problem.
      requireHostHeader: false,
      shouldUpgradeCallback: isWebSocket,
    },
    keepAliveTimeout: limits.keepAliveMs,
    // Uploads take as long as they take: `requestBounds` looks at their pace.
    requestTimeout: 0,
    clientErrorHandler: (error, socket) => connections.refuse(error, socket),
    // What is still open once `preClose` has waited is a caller who does not read.
    forceCloseConnections: true,
    requestIdHeader: false,
    genReqId: (request) => {
      const given = request.headers['x-request-id']
      return typeof given === 'string' && REQUEST_ID.test(given) ? given : crypto.randomUUID()
    },
    frameworkErrors: answerFrameworkError,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 2048 },
  }).withTypeProvider<ZodTypeProvider>()
  app.setValidatorCompiler(validatorCompiler)
  app.setSerializerCompiler(serializerCompiler)

  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id)
    // Each plugin that follows a call listens for its end.
    reply.raw.setMaxListeners(CALL_LISTENERS)
    done()
  })
  app.addHook('preClose', async () => {
    // Streams would go on for ever; answers that are under way get a moment to arrive.
    closing.abort()
    const answered = connections.answering.map((response) => once(response, 'close'))
    await Promise.race([Promise.all(answered), sleep(LAST_ANSWERS_MS, undefined, { ref: false })])
  })
  app.addHook('onResponse', (request, reply, done) => {
    log.info(
      {
        event: 'request.finished',
        request_id: request.id,
        method: request.method,
        route: request.routeOptions.url,
        status: reply.statusCode,
        duration_ms: Math.round(reply.elapsedTime * 10) / 10,
      },
      'request finished',
    )
    done()
  })

  await app.register(securityHeaders)
  await app.register(problemDetails)
  await app.register(connectionBounds, { connections })
  await app.register(webSockets)
  await app.register(requestBounds, { limits })
  await app.register(hostCheck, { allowedHosts })
  await app.register(access, { authenticator: keys, owners: services.owners })
  await app.register(revocation, { authenticator: keys })
  if (keys !== undefined) await app.register(rateLimits, { requestsPerMinute })
  await app.register(audit, { log: auditLog })
  await app.register(jsonBody)
  await app.register(streamBounds, { limits, callerOf: ({ caller, ip }) => caller.tokenId ?? caller.keyId ?? ip })
  await app.register(durableAnswers, { synced: services.synced })
  await app.register(answersTogether)
  await app.register(openapi)
  await app.register(metrics, { counts: services.counts })

  const { logs, tools, relics, relicProxy, sessions, networks, reconciler, stats, health } = services
  const { workers, workerHealth, execs, files, idempotency, events } = services
  await app.register(toolRoutes, { tools, idempotency, logs, closing: closing.signal })
  await app.register(relicRoutes, { relics, idempotency, logs, closing: closing.signal })
  await app.register(relicProxyRoutes, { relicProxy, closing: closing.signal })
  await app.register(workerRoutes, { workers, idempotency, workerHealth, logs, closing: closing.signal })
  await app.register(execRoutes, { execs, idempotency, logs, closing: closing.signal })
  await app.register(workerFileRoutes, { files, closing: closing.signal })
  await app.register(eventRoutes, { events, closing: closing.signal })
  await app.register(sessionRoutes, { sessions })
  await app.register(sessionTokenRoutes, { sessions, desk: keys?.desk })
  await app.register(statsRoutes, { stats, closing: closing.signal })
  await app.register(cleanupRoutes, { sessions, networks, reconciler })
  await app.register(serviceRoutes, { health })
  return app
}
