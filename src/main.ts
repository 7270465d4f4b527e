/** Composition root: configuration, engine, store, managers, HTTP; and the signals that end it. */
import { join } from 'node:path'
import { styleText } from 'node:util'
import closeWithGrace from 'close-with-grace'
import { type Logger, pino } from 'pino'
import { KeyRing } from './access/key-ring.ts'
import { SessionTokenDesk } from './access/session-tokens.ts'
import { buildApp } from './app.ts'
import { AuditLog } from './audit/audit-log.ts'
import { type Config, loadConfig } from './config.ts'
import { DockerEngine } from './engine/docker/docker-engine.ts'
import type { EngineInfo } from './engine/engine.ts'
import { ConfigError, messageOf } from './errors.ts'
import { collectWhenIdle } from './idle-collection.ts'
import { LogLines, lineTime } from './log-lines.ts'
import { engineWarnings, requireRuntimes } from './managers/engine-fitness.ts'
import { HostPaths } from './managers/host-paths.ts'
import { buildServices } from './services.ts'
import { Store } from './store/store.ts'
import { VERSION } from './version.ts'

const SHUTDOWN_MARGIN_MS = 15_000

async function main(): Promise<void> {
  const config = loadConfig()
  const form = { level: config.logLevel, base: null, timestamp: lineTime }
  const log = pino(form, new LogLines(process.stdout))
  // Whoever read the log may be gone. pino's own destination retries for ever then, also at the exit.
  process.stdout.on('error', () => {})
  // One waits for a socket, the other for a disk; where one fails, the other is not cut off.
  const [connected, opened] = await Promise.allSettled([
    connect(config),
    Store.open(config.dataDir, { onCorrupt: endFor }),
  ])
  const { engine, engineInfo } = fulfilled(connected)
  const store = fulfilled(opened)
  requireRuntimes(config.profiles, engineInfo)
  for (const warning of engineWarnings(engineInfo)) log.warn({ event: 'engine.warning' }, warning)
  const hostPaths = await HostPaths.detect(engine.containers)
  const services = buildServices({ config, engine, engineInfo, store, hostPaths, log })
  const keys = await openKeys(config, store, log)
  const auditLog = await AuditLog.open(join(config.dataDir, 'audit'), { log })
  const { allowedHosts, requestsPerMinute, maxConnections, maxStreams } = config
  const httpLimits = { maxConnections, maxStreams }
  const app = await buildApp({ services, keys, auditLog, requestsPerMinute, allowedHosts, httpLimits, log })

  closeWithGrace({ delay: config.drainSeconds * 1000 + SHUTDOWN_MARGIN_MS, logger: false }, async ({ signal, err }) => {
    if (err) log.fatal({ event: 'service.broke', err }, 'the service failed')
    log.info({ event: 'service.stopping', signal }, 'stopping')
    await services.drain(err ? 0 : config.drainSeconds)
    await app.close()
    keys?.close()
    await auditLog.close()
    await store.close()
    await engine.close()
    log.info({ event: 'service.stopped' }, 'stopped')
  })

  if (!config.loopback && config.keysFile === undefined)
    log.warn(
      { event: 'service.unauthenticated', host: config.host },
      'whoever reaches this address may do everything: no keys are asked for (CO_ALLOW_UNAUTHENTICATED)',
    )
  await services.begin()
  const address = await app.listen({ host: config.host, port: config.port })
  log.info(
    { event: 'service.started', address, version: VERSION, instance: store.instance, engine: engineInfo.version },
    'started',
  )
  if (config.greeting) greet(address, config)
  collectWhenIdle({ log })
}

function fulfilled<T>(settled: PromiseSettledResult<T>): T {
  if (settled.status === 'rejected') throw settled.reason
  return settled.value
}

/**
 * Ends the service as a fault that nobody catches: what a corrupt store says cannot be relied on, and
 * the next start sets it aside.
 */
function endFor(error: Error): void {
  setImmediate(() => {
    throw error
  })
}

/** The keys that callers have to show, and the tokens made with them; undefined where none are asked for. */
async function openKeys({ keysFile, loopback }: Config, store: Store, log: Logger) {
  if (keysFile === undefined) return undefined
  const ring = await KeyRing.open(keysFile, { log })
  if (!loopback) ring.requireUsableKey()
  const desk = new SessionTokenDesk(store.sessionTokens, ring)
  return {
    desk,
    authenticate: async (bearer: string) => ring.authenticate(bearer) ?? (await desk.authenticate(bearer)),
    close: () => ring.close(),
  }
}

async function connect(config: Config): Promise<{ engine: DockerEngine; engineInfo: EngineInfo }> {
  try {
    const engine = new DockerEngine({ host: config.dockerHost, certPath: config.dockerCertPath })
    return { engine, engineInfo: await engine.connect() }
  } catch (error) {
    throw new ConfigError(`DOCKER_HOST=${config.dockerHost}: no engine answers there: ${messageOf(error)}`)
  }
}

main().catch((error: unknown) => {
  const expected = error instanceof ConfigError
  process.stderr.write(
    `${styleText('red', 'container-orchestrator did not start:')} ${expected ? messageOf(error) : ((error as Error)?.stack ?? String(error))}\n`,
  )
  process.exit(1)
})

/** The address, and two calls to try that need nothing from outside. */
function greet(address: string, { keysFile }: Config): void {
  const headers = `-H 'content-type: application/json'${keysFile === undefined ? '' : ' -H "authorization: Bearer $KEY"'}`
  const tool =
    '{"tool_name":"hello","session_id":"demo","image":"container-orchestrator/toolbox:1","command":["echo","{\\"hello\\":\\"world\\"}"]}'
  process.stdout.write(`
container-orchestrator ${VERSION} is ready at ${address} (docs: ${address}/docs). Try:

  curl -s ${address}/containers/tool/execute ${headers} \\
    -d '${tool}'

  curl -s ${address}/containers/cleanup/session ${headers} -d '{"session_id":"demo"}'

`)
}
