/** What every request schema promises: nothing unknown passes, and nothing is coerced. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { z } from 'zod'
import { VolumeMount } from '../../../src/domain/common.ts'
import { ExecRequest, ListExecs, ReadExec } from '../../../src/domain/exec.ts'
import { ReadLogs } from '../../../src/domain/output.ts'
import { ListRelics, StartRelic, StopRelic } from '../../../src/domain/relic.ts'
import { CleanupNetworks, CleanupOrphans, CleanupSession, ListSessions } from '../../../src/domain/session.ts'
import { ListStats, OneStatsQuery } from '../../../src/domain/stats.ts'
import { ExecuteTool, ListTools } from '../../../src/domain/tool.ts'
import { ListWorkers, RefreshWorker, SnapshotWorker, StopWorker } from '../../../src/domain/worker.ts'
import { EnsureWorker, StartWorker } from '../../../src/domain/worker-spec.ts'

const TOOL = { tool_name: 'sum', session_id: 's1', image: 'python:3.13' }
const RELIC = { relic_name: 'db', session_id: 's1', image: 'postgres:17' }

const REQUESTS: [string, z.ZodType, object][] = [
  ['ExecuteTool', ExecuteTool, TOOL],
  ['StartRelic', StartRelic, RELIC],
  ['StopRelic', StopRelic, {}],
  ['CleanupSession', CleanupSession, { session_id: 's1' }],
  ['CleanupNetworks', CleanupNetworks, {}],
  ['CleanupOrphans', CleanupOrphans, {}],
  ['VolumeMount', VolumeMount, { source: 'data', target: '/data' }],
  ['ListTools', ListTools, {}],
  ['ListRelics', ListRelics, {}],
  ['ListSessions', ListSessions, {}],
  ['ListStats', ListStats, {}],
  ['OneStatsQuery', OneStatsQuery, {}],
  ['ReadLogs', ReadLogs, {}],
  ['StartWorker', StartWorker, { worker_id: 'w1', image: 'python:3.13' }],
  ['EnsureWorker', EnsureWorker, { image: 'python:3.13' }],
  ['StopWorker', StopWorker, {}],
  ['RefreshWorker', RefreshWorker, {}],
  ['SnapshotWorker', SnapshotWorker, {}],
  ['ListWorkers', ListWorkers, {}],
  ['ExecRequest', ExecRequest, { command: 'true' }],
  ['ListExecs', ListExecs, {}],
  ['ReadExec', ReadExec, {}],
]

/** The dotted paths of what is wrong, with the names of unknown fields. */
function faults(schema: z.ZodType, body: unknown): string[] {
  const parsed = schema.safeParse(body)
  if (parsed.success) return []
  return parsed.error.issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys'
      ? issue.keys.map((key) => [...issue.path, key].join('.'))
      : [issue.path.join('.')],
  )
}

describe.each(REQUESTS)('%s', (_, schema, least) => {
  it('takes the least that is needed', () => {
    expect(faults(schema, least)).toEqual([])
  })

  it('refuses an unknown field, by its name', () => {
    expect(faults(schema, { ...least, sesion_id: 's1' })).toEqual(['sesion_id'])
    expect(faults(schema, { ...least, Privileged: true, HostConfig: {} })).toEqual(['Privileged', 'HostConfig'])
    expect(faults(schema, { ...least, constructor: {} })).toEqual(['constructor'])
  })

  it('refuses a __proto__ of its own, and gives nothing another prototype', () => {
    const body: unknown = JSON.parse(
      `{"__proto__":{"privileged":true},${JSON.stringify(least).slice(1)}`.replace(',}', '}'),
    )
    expect(schema.safeParse(body).success).toBe(false)
    const parsed = schema.parse(least)
    expect(Object.getPrototypeOf(parsed)).toBe(Object.prototype)
    expect(({} as Record<string, unknown>)['privileged']).toBeUndefined()
  })

  it.each([null, undefined, 'text', 7, true, [], [{}]])('refuses %j for a body', (body) => {
    expect(schema.safeParse(body).success).toBe(false)
  })

  it('changes nothing of what it is given', () => {
    const body = structuredClone(least)
    schema.parse(body)
    expect(body).toEqual(least)
  })

  it('gives the same again for what it gave', () => {
    // A query has strings only, and its values are read from them once.
    const parsed = schema.parse(least)
    expect(schema.parse(parsed)).toEqual(parsed)
  })
})

describe('a cursor', () => {
  const uuid = '01900000-0000-7000-8000-00000000000a'

  it.each([
    ['ListTools', ListTools, `exec_${uuid}`],
    ['ListExecs', ListExecs, `exec_${uuid}`],
    ['ListRelics', ListRelics, `relic_${uuid}`],
    ['ListWorkers', ListWorkers, `worker_${uuid}`],
    ['ListSessions', ListSessions, 'any-session.1'],
  ] as const)('of %s is an id of what it lists', (_, schema, cursor) => {
    expect(faults(schema, { cursor })).toEqual([])
    for (const other of ['', ' ', `${cursor} `, `${cursor}\n`, `/${cursor}`, 'x'.repeat(64), '%', 7]) {
      expect(faults(schema, { cursor: other }), String(other)).toEqual(['cursor'])
    }
  })

  it('is not one of another list, or a part of one', () => {
    for (const cursor of ['exec_', 'exec', `relic_${uuid}`, uuid, `exec_${uuid.toUpperCase()}`, `exec_${uuid}0`]) {
      expect(faults(ListTools, { cursor }), cursor).toEqual(['cursor'])
    }
  })
})

const COERCIBLE: [string, z.ZodType, object, unknown][] = [
  ['tool_name', ExecuteTool, TOOL, 7],
  ['session_id', ExecuteTool, TOOL, 7],
  ['wait', ExecuteTool, TOOL, 'true'],
  ['wait', ExecuteTool, TOOL, 1],
  ['cleanup', ExecuteTool, TOOL, null],
  ['priority', ExecuteTool, TOOL, '5'],
  ['priority', ExecuteTool, TOOL, 5.5],
  ['priority', ExecuteTool, TOOL, Number.NaN],
  ['command', ExecuteTool, TOOL, 'echo hi'],
  ['environment', ExecuteTool, TOOL, []],
  ['stdin', ExecuteTool, TOOL, 7],
  ['network_mode', ExecuteTool, TOOL, 'Session'],
  ['output_paths', ExecuteTool, TOOL, '/a'],
  ['volumes', ExecuteTool, TOOL, {}],
  ['port', StartRelic, RELIC, '8000'],
  ['create_private_network', StartRelic, RELIC, 'false'],
  ['health_check_timeout_seconds', StartRelic, RELIC, '60'],
  ['timeout_seconds', StopRelic, {}, '10'],
  ['force', CleanupSession, { session_id: 's1' }, 'true'],
  ['dry_run', CleanupSession, { session_id: 's1' }, 0],
  ['limit', ListTools, {}, 10],
  ['tail', ReadLogs, {}, 10],
  ['follow', ReadLogs, {}, '1'],
  ['follow', OneStatsQuery, {}, true],
]

describe('nothing is coerced', () => {
  it.each(COERCIBLE)('%s', (field, schema, least, value) => {
    expect(faults(schema, { ...least, [field]: value })[0]).toMatch(new RegExp(`^${field}`))
  })

  it.each(['memory_mb', 'cpu_limit', 'timeout_seconds', 'pids_limit'])('resource_limits.%s', (field) => {
    for (const value of ['64', null, true, [64], Number.POSITIVE_INFINITY]) {
      const body = { resource_limits: { [field]: value } }
      expect(faults(ExecuteTool, { ...TOOL, ...body })).toEqual([`resource_limits.${field}`])
      expect(faults(StartRelic, { ...RELIC, ...body })).toEqual([`resource_limits.${field}`])
    }
  })

  it('whatever JSON is sent: it passes as it is, or not at all', () => {
    const fields = [
      'command',
      'stdin',
      'priority',
      'wait',
      'labels',
      'parameters',
      'network_mode',
      'port',
      'restart_policy',
    ]
    fc.assert(
      fc.property(fc.constantFrom(...fields), fc.jsonValue(), (field, value) => {
        const parsed = ExecuteTool.safeParse({ ...TOOL, [field]: value })
        if (!parsed.success) return
        expect((parsed.data as Record<string, unknown>)[field]).toEqual(value)
      }),
    )
  })
})
