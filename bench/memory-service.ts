/** The service on an engine in memory, as a process: for what it uses itself, without a container engine. */
import { pino } from 'pino'
import { buildApp } from '../src/app.ts'
import { loadConfig } from '../src/config.ts'
import { MemoryEngine } from '../src/engine/memory/memory-engine.ts'
import { collectWhenIdle } from '../src/idle-collection.ts'
import { HostPaths } from '../src/managers/host-paths.ts'
import { buildServices } from '../src/services.ts'
import { Store } from '../src/store/store.ts'

const config = loadConfig()
const log = pino({ level: config.logLevel, base: null }, process.stdout)
const engine = new MemoryEngine()
const store = await Store.open(config.dataDir)
const engineInfo = await engine.connect()
const services = buildServices({ config, engine, engineInfo, store, hostPaths: new HostPaths(), log })
const app = await buildApp({ services, log, allowedHosts: config.allowedHosts })
process.once('SIGTERM', () => process.exit(0))
await services.begin()
const address = await app.listen({ host: config.host, port: config.port })
log.info({ event: 'service.started', address }, 'started')
collectWhenIdle({ log })
