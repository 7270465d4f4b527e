import fc from 'fast-check'
import { expect } from 'vitest'
import { TOOLBOX, UNREACHABLE } from '../../fixtures/images.ts'
import { type Model, SESSIONS, type Tool } from './model.ts'
import { answeredByKey, expectStatus, keyHeader, keys, LONG, pick, Step } from './step.ts'
import { eventually, type Reply, SLOTS, type World } from './world.ts'

const EXECUTE = '/containers/tool/execute'
const KINDS = ['ok', 'fails', 'unknown command', 'missing image', 'overdue', 'long'] as const
type Kind = (typeof KINDS)[number]

interface Run {
  session: string
  kind: Kind
  wait: boolean
  keep: boolean
  network: boolean
  volume: boolean
  key: string | undefined
}

const runs: fc.Arbitrary<Run> = fc.record({
  session: fc.constantFrom(...SESSIONS),
  kind: fc.constantFrom(...KINDS),
  wait: fc.boolean(),
  keep: fc.boolean(),
  network: fc.boolean(),
  volume: fc.boolean(),
  key: keys,
})

export const executeTool = runs.map(
  (run) =>
    new Step(
      `execute ${JSON.stringify({ ...run, session: SESSIONS.indexOf(run.session) })}`,
      (model, world) => execute(model, world, run),
      // A short one must have its turn at once; few long ones may wait.
      ({ active }) => active.length < SLOTS + (run.kind === 'long' ? 2 : 0),
    ),
)

async function execute(model: Model, world: World, run: Run): Promise<void> {
  const { session, kind, key } = run
  const isLong = kind === 'long'
  const wait = run.wait && !isLong
  const body = bodyOf(run)
  if (await answeredByKey(model, world, key, { path: EXECUTE, body })) return
  const reply = await world.post(EXECUTE, body, keyHeader(key))
  expectStatus(reply, wait ? 200 : 202, `a tool (${kind})`)
  const id: string = reply.body.execution_id
  const outcome = outcomeOf(kind, world)
  if (wait) expect(outcomeSeen(reply)).toBe(outcome)
  else if (!isLong) await untilEnded(world, id)
  const { network } = model.touch(session)
  if (!isLong) {
    model.touch(session).network = network || run.network
    if (run.volume) model.volumes.add(`${session}/data`)
  }
  model.tools.set(id, { id, session, outcome, kept: run.keep && !isLong && kind !== 'missing image' })
  if (key !== undefined) model.keys.set(key, { path: EXECUTE, body, status: reply.status, idField: 'execution_id', id })
}

function bodyOf({ session, kind, wait, keep, network, volume }: Run): object {
  const isLong = kind === 'long'
  const commands: Record<Kind, readonly string[]> = {
    ok: ['echo', '{"ok":true}'],
    fails: ['sh', '-c', 'exit 3'],
    'unknown command': ['no-such-command'],
    'missing image': ['true'],
    overdue: LONG,
    long: LONG,
  }
  return {
    tool_name: 'tool',
    session_id: session,
    image: kind === 'missing image' ? UNREACHABLE : TOOLBOX,
    command: commands[kind],
    wait: wait && !isLong,
    cleanup: !keep || isLong,
    ...(kind === 'overdue' ? { resource_limits: { timeout_seconds: 0.1 } } : {}),
    ...(network && !isLong ? { network_mode: 'session' } : {}),
    ...(volume && !isLong ? { volumes: [{ source: 'data', target: '/data' }] } : {}),
  }
}

function outcomeOf(kind: Kind, world: World): string {
  const outcomes: Record<Kind, string> = {
    ok: 'completed',
    fails: 'failed nonzero_exit',
    'unknown command': 'failed start_failed',
    'missing image': `failed ${world.subject.unpullable}`,
    overdue: 'timeout',
    long: 'active',
  }
  return outcomes[kind]
}

function outcomeSeen({ body }: Reply): string {
  return body.status === 'failed' ? `failed ${body.failure.code}` : body.status
}

async function untilEnded(world: World, id: string): Promise<void> {
  await eventually(
    world,
    () => world.get(`/containers/tool/${id}`),
    ({ body }) => !['queued', 'preparing', 'running'].includes(body.status),
  )
}

/** Two callers, or one that is impatient: the same call with the same key at the same time. */
export const executeTwice = fc.constantFrom(...SESSIONS).map(
  (session) =>
    new Step(
      `execute twice at once with one key in ${SESSIONS.indexOf(session)}`,
      async (model, world) => {
        const key = `twin-${model.tools.size}`
        const body = { tool_name: 'twin', session_id: session, image: TOOLBOX, command: ['true'] }
        const replies = await Promise.all([1, 2].map(() => world.post(EXECUTE, body, keyHeader(key))))
        const [first, second] = replies
        if (first === undefined || second === undefined) throw new Error('two calls were made')
        for (const reply of replies) expectStatus(reply, 200, 'a tool that is asked for twice')
        const id: string = first.body.execution_id
        expect(second.body.execution_id).toBe(id)
        model.touch(session)
        model.tools.set(id, { id, session, outcome: 'completed', kept: false })
        model.keys.set(key, { path: EXECUTE, body, status: 200, idField: 'execution_id', id })
      },
      ({ active }) => active.length < SLOTS,
    ),
)

export const cancelTool = fc.nat(9).map(
  (index) =>
    new Step(
      `cancel an active tool (${index})`,
      async (model, world) => {
        const tool: Tool = pick(model.active, index)
        const reply = await world.post(`/containers/tool/${tool.id}/cancel`)
        expectStatus(reply, 200, 'the cancel of a tool')
        expect(outcomeSeen(reply)).toBe('cancelled')
        tool.outcome = 'cancelled'
      },
      ({ active }) => active.length > 0,
    ),
)

export const cancelEndedTool = fc.nat(9).map(
  (index) =>
    new Step(
      `cancel an ended tool (${index})`,
      async ({ ended }, world) => {
        const reply = await world.post(`/containers/tool/${pick(ended, index).id}/cancel`)
        expectStatus(reply, 409, 'the cancel of a tool that has ended')
      },
      ({ ended }) => ended.length > 0,
    ),
)

export const readTool = fc.nat(9).map(
  (index) =>
    new Step(
      `read a tool (${index})`,
      async (model, world) => {
        const tool = pick([...model.tools.values()], index)
        const reply = await world.get(`/containers/tool/${tool.id}`)
        expectStatus(reply, 200, 'a tool')
        expectStatus(await world.get(`/containers/tool/${tool.id}/logs`), 200, "a tool's log")
        expectStatus(await world.get(`/containers/tool/${tool.id}/artifacts`), 200, "a tool's artifacts")
        if (tool.outcome === 'completed') expect(reply.body.exit_code).toBe(0)
        const { body } = await world.get(`/containers/tool?session_id=${tool.session}&limit=1000`)
        const inSession = [...model.tools.values()].filter(({ session }) => session === tool.session)
        expect(body.items).toHaveLength(inSession.length)
        const completed = await world.get('/containers/tool?status=completed&limit=1000')
        expect(completed.body.items).toHaveLength(model.ended.filter(({ outcome }) => outcome === 'completed').length)
      },
      ({ tools }) => tools.size > 0,
    ),
)
