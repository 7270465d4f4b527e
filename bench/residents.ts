/** Containers of the service that stay: relics and workers that sleep. */
import { TOOLBOX } from './bare-engine.ts'
import type { BenchService } from './service.ts'
import { atOnce } from './tool-runs.ts'

/** What an engine starts fastest on few cores. */
const AT_ONCE = 4
export const SLEEP = ['sleep', '86400']

/** A session's network has room for no more. */
const PER_SESSION = 25

/** Starts relics in as many sessions as they need, and answers the ids of their containers. */
export async function startRelics(service: BenchService, count: number, session = 'residents'): Promise<string[]> {
  const relics = await atOnce(count, AT_ONCE, (index) =>
    service.post<{ container_id: string }>('/containers/relic/start', {
      relic_name: `relic-${index}`,
      session_id: `${session}-${Math.floor(index / PER_SESSION)}`,
      image: TOOLBOX,
      command: SLEEP,
      health_check_endpoint: null,
      resource_limits: { memory_mb: 64 },
    }),
  )
  return relics.map(({ container_id }) => container_id)
}

/** Ends a session with all that is in it. */
export function endSession(service: BenchService, session: string): Promise<{ containers_removed: number }> {
  return service.post('/containers/cleanup/session', { session_id: session, force: true })
}

/** Starts workers on the network of a session. */
export async function startWorkers(service: BenchService, count: number, session: string): Promise<void> {
  await atOnce(count, AT_ONCE, (index) =>
    service.post('/containers/worker/start', {
      worker_id: `${session}-worker-${index}`,
      session_id: session,
      network: 'session',
      image: TOOLBOX,
      command: SLEEP,
      memory_limit: '64m',
    }),
  )
}
