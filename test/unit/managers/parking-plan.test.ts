import { describe, expect, it } from 'vitest'
import { ExecuteTool } from '../../../src/domain/tool.ts'
import type { ImageInfo } from '../../../src/engine/engine.ts'
import { parkingPlan } from '../../../src/managers/parking-plan.ts'
import { type Profile, STRICT } from '../../../src/policy/profiles.ts'

const IMAGE: ImageInfo = {
  id: `sha256:${'1'.repeat(64)}`,
  bytes: 1,
  createdAt: new Date(0),
  labels: {},
  user: '',
  workingDir: '/',
  environment: ['PATH=/bin'],
  entrypoint: [],
  command: ['sh'],
}

const request = (change: object = {}) =>
  ExecuteTool.parse({ tool_name: 't', session_id: 's', image: 'tool:1', command: ['true'], ...change })
const plan = (change: object = {}, image: Partial<ImageInfo> = {}, profile: Profile = STRICT) =>
  parkingPlan(request(change), { ...IMAGE, ...image }, profile)

describe('parkingPlan', () => {
  it('is one kind for requests that differ in what a hand-off passes on', () => {
    const { key } = plan() ?? {}
    expect(key).toMatch(/^[0-9a-f]{64}$/)
    for (const change of [
      { command: ['echo', 'hi'] },
      { entrypoint: ['cat'] },
      { tool_name: 'other', session_id: 'other' },
      { parameters: { a: 1 }, environment: { A: 'b' }, stdin: 'text' },
      { priority: 9, wait: false },
      { resource_limits: { timeout_seconds: 5 } },
    ])
      expect(plan(change)?.key, JSON.stringify(change)).toBe(key)
  })

  it('is another kind for each thing that cannot change after a start', () => {
    const keys = [
      plan(),
      plan({}, { id: `sha256:${'2'.repeat(64)}` }),
      plan({ resource_limits: { memory_mb: 64 } }),
      plan({ resource_limits: { cpu_limit: 0.5 } }),
      plan({ resource_limits: { pids_limit: 16 } }),
      plan({ labels: { team: 'a' } }),
      plan({ labels: { team: 'b' } }),
      plan({ network_mode: 'session' }),
      plan({ network_mode: 'bridge' }),
      plan({ input_files: { 'a.txt': 'a' } }),
      plan({ output_paths: ['/results/a.txt'] }),
      plan({}, { user: 'nobody' }),
      plan({}, {}, { ...STRICT, user: '65534' }),
      plan({}, {}, { ...STRICT, runtime: 'runsc' }),
      plan({}, {}, { ...STRICT, tmpBytes: 1024 }),
      plan({}, {}, { ...STRICT, readonlyRoot: false }),
      plan({}, {}, { ...STRICT, openFiles: { soft: 10, hard: 10 } }),
      plan({}, {}, { ...STRICT, capabilities: ['CHOWN'] }),
    ].map((one) => one?.key)
    expect(keys).not.toContain(undefined)
    expect(new Set(keys).size).toBe(keys.length)
  })

  it('has nothing of the request but what it is kept in', () => {
    const secret = 'hunter2'
    const told = JSON.stringify(
      plan({ command: [secret], environment: { A: secret }, parameters: { a: secret }, stdin: secret }),
    )
    expect(told).not.toContain(secret)
    expect(plan()?.container).toMatchObject({
      entrypoint: ['/.toolbox/tool-start'],
      environment: { HOME: '/tmp' },
      openStdin: true,
    })
  })

  it.each([
    ['volumes', { volumes: [{ source: 'data', target: '/data' }] }],
    ['a GPU', { gpu: {} }],
    ['a way out by a proxy', { network_mode: 'egress' }],
    ['a container that stays', { cleanup: false }],
    ['an empty entrypoint', { entrypoint: [] }],
    ['a variable of the shell that would pass it on', { environment: { IFS: ',' } }],
    ['a variable of the program that would pass it on', { environment: { _w_text: 'x' } }],
  ])('is none for %s', (_what, change) => {
    expect(plan(change)).toBeUndefined()
  })

  it('is none for an image that says nothing to run, or has a variable of the shell’s', () => {
    const silent = ExecuteTool.parse({ tool_name: 't', session_id: 's', image: 'tool:1' })
    expect(parkingPlan(silent, { ...IMAGE, command: [] }, STRICT)).toBeUndefined()
    expect(parkingPlan(silent, IMAGE, STRICT)).toBeDefined()
    expect(plan({}, { environment: ['RANDOM=4'] })).toBeUndefined()
  })
})
