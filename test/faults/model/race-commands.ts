import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { expect } from 'vitest'
import { TOOLBOX } from '../../fixtures/images.ts'
import { type Model, SESSIONS, WORKERS } from './model.ts'
import { adopt } from './observe.ts'
import { relicBody } from './relic-commands.ts'
import { LONG, Step } from './step.ts'
import { workerFields } from './worker-commands.ts'
import { type Reply, SLOTS, type World } from './world.ts'

/** Within this time a call on the in-memory engine has gone through all that it does. */
const LATEST_MS = 25

type Call = (model: Model, world: World) => Promise<Reply>

/** Calls that get into each other's way. */
const CALLS = {
  'start a relic': (_model, world) => world.post('/containers/relic/start', relicBody(session, 'r0')),
  'stop a relic': (model, world) =>
    onRelic(model, (id) => world.post(`/containers/relic/${id}/stop`, { timeout_seconds: 0 })),
  'restart a relic': (model, world) => onRelic(model, (id) => world.post(`/containers/relic/${id}/restart`)),
  'delete a relic': (model, world) => onRelic(model, (id) => world.call('DELETE', `/containers/relic/${id}`)),
  'start a worker': (_model, world) =>
    world.post('/containers/worker/start', { worker_id: worker, ...workerFields(worker) }),
  'ensure a worker': (_model, world) => world.post(`/containers/worker/${worker}/ensure`, workerFields(worker)),
  'stop a worker': (_model, world) => world.post(`/containers/worker/${worker}/stop`, { timeout_seconds: 0 }),
  'restart a worker': (_model, world) => world.post(`/containers/worker/${worker}/restart`),
  'refresh a worker': (_model, world) =>
    world.post(`/containers/worker/${worker}/refresh`, { timeout_seconds: 0, when_busy: 'refuse' }),
  'pause a worker': (_model, world) => world.post(`/containers/worker/${worker}/pause`),
  'resume a worker': (_model, world) => world.post(`/containers/worker/${worker}/resume`),
  'delete a worker': (_model, world) => world.call('DELETE', `/containers/worker/${worker}`),
  'run a command': (_model, world) => world.post(`/containers/worker/${worker}/exec`, { command: 'true' }),
  'begin a command': (_model, world) =>
    world.post(`/containers/worker/${worker}/exec`, { command: 'sleep 86400', wait: false }),
  'run a tool': (_model, world) => world.post('/containers/tool/execute', { ...tool, command: ['true'] }),
  'begin a tool': (_model, world) => world.post('/containers/tool/execute', { ...tool, command: LONG, wait: false }),
  'cancel a tool': (model, world) => world.post(`/containers/tool/${model.active[0]?.id ?? 'exec_none'}/cancel`),
  'clean up by force': (_model, world) =>
    world.post('/containers/cleanup/session', { session_id: session, force: true }),
  'clean up': (_model, world) => world.post('/containers/cleanup/session', { session_id: session }),
  'put the session': (_model, world) => world.call('PUT', `/sessions/${session}`, { ttl_seconds: 3600 }),
  'clean up orphans': (_model, world) => world.post('/containers/cleanup/orphans', {}),
} satisfies Record<string, Call>

const worker = WORKERS[2]
const session = SESSIONS[1] ?? ''
const tool = { tool_name: 'tool', session_id: session, image: TOOLBOX, network_mode: 'session' }

type CallName = keyof typeof CALLS
const callNames = fc.constantFrom(...(Object.keys(CALLS) as CallName[]))

/**
 * Several calls at once, in the session and for the worker and relic that are the same for all. Any
 * order of them is right; in none the service fails, or leaves what no record claims.
 */
export const race = fc
  .array(fc.record({ name: callNames, afterMs: fc.nat(LATEST_MS) }), { minLength: 2, maxLength: 4 })
  .map(
    (calls) =>
      new Step(
        `at once: ${calls.map(({ name, afterMs }) => `${name} after ${afterMs}`).join(', ')}`,
        async (model, world) => {
          const replies = await Promise.all(
            calls.map(async ({ name, afterMs }) => {
              await sleep(afterMs)
              return { name, ...(await CALLS[name](model, world)) }
            }),
          )
          for (const { name, status, body } of replies) {
            const told = `${name}: ${status} ${JSON.stringify(body)}`
            expect(status, told).toBeLessThan(500)
            if (name.startsWith('clean up')) expect(body.errors, told).toEqual([])
          }
          await world.settled()
          await adopt(model, world)
        },
        // A tool that is run is waited for.
        ({ active }) => active.length + calls.filter(({ name }) => name.endsWith('a tool')).length <= SLOTS,
      ),
  )

function onRelic(model: Model, call: (id: string) => Promise<Reply>): Promise<Reply> {
  const relic = [...model.relics.values()].findLast((each) => each.session === session)
  return call(relic?.id ?? 'relic_none')
}
