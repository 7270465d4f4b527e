import { describe, expect, it } from 'vitest'
import { ExecuteTool, hasEnded, ListTools, ToolStatus } from '../../../src/domain/tool.ts'

const LEAST = { tool_name: 'sum', session_id: 's1', image: 'python:3.13' }
const pathsOf = (fields: object) =>
  ExecuteTool.safeParse({ ...LEAST, ...fields }).error?.issues.map((issue) => issue.path.join('.')) ?? []

describe('ExecuteTool', () => {
  it('has the defaults of the contract', () => {
    expect(ExecuteTool.parse(LEAST)).toEqual({
      ...LEAST,
      parameters: {},
      environment: {},
      resource_limits: { memory_mb: 512, cpu_limit: 1, timeout_seconds: 300, pids_limit: 256 },
      volumes: [],
      network_mode: 'none',
      input_files: {},
      output_paths: [],
      cleanup: true,
      wait: true,
      labels: {},
      priority: 5,
    })
  })

  it('fills in the limits that are not given', () => {
    expect(ExecuteTool.parse({ ...LEAST, resource_limits: { memory_mb: 64 } }).resource_limits).toEqual({
      memory_mb: 64,
      cpu_limit: 1,
      timeout_seconds: 300,
      pids_limit: 256,
    })
  })

  it('shares no default between two requests', () => {
    const one = ExecuteTool.parse(LEAST)
    one.environment['A'] = '1'
    one.resource_limits.memory_mb = 8
    expect(ExecuteTool.parse(LEAST)).toMatchObject({ environment: {}, resource_limits: { memory_mb: 512 } })
  })

  it.each(['tool_name', 'session_id'] as const)('needs its %s', (field) => {
    expect(pathsOf({ [field]: undefined })).toEqual([field])
  })

  it.each([
    ['none', {}],
    ['image and dockerfile', { image: 'a', dockerfile: 'FROM a' }],
    ['dockerfile and build', { dockerfile: 'FROM a', build: { dockerfile: 'FROM a' } }],
    ['all three', { image: 'a', dockerfile: 'FROM a', build: { dockerfile: 'FROM a' } }],
  ])('refuses %s for the image', (_, sources) => {
    expect(pathsOf({ image: undefined, ...sources })).toEqual(['image'])
  })

  it.each([{ image: 'a' }, { dockerfile: 'FROM a' }, { build: { dockerfile: 'FROM a', files: { 'a/b': 'x' } } }])(
    'takes one source of the image: %j',
    (source) => {
      expect(pathsOf({ image: undefined, ...source })).toEqual([])
    },
  )

  it.each([
    [{ memory_mb: 7 }, 'memory_mb'],
    [{ memory_mb: 64.5 }, 'memory_mb'],
    [{ memory_mb: 2 ** 20 + 1 }, 'memory_mb'],
    [{ cpu_limit: 0 }, 'cpu_limit'],
    [{ cpu_limit: -1 }, 'cpu_limit'],
    [{ cpu_limit: 1025 }, 'cpu_limit'],
    [{ timeout_seconds: 0 }, 'timeout_seconds'],
    [{ timeout_seconds: 86_401 }, 'timeout_seconds'],
    [{ pids_limit: 0 }, 'pids_limit'],
    [{ pids_limit: -1 }, 'pids_limit'],
    [{ swap_mb: 5 }, ''],
  ])('refuses the limit %j', (limit, field) => {
    expect(pathsOf({ resource_limits: limit })).toEqual([field === '' ? 'resource_limits' : `resource_limits.${field}`])
  })

  it.each([
    [{ priority: -1 }, 'priority'],
    [{ priority: 10 }, 'priority'],
    [{ network_mode: 'host' }, 'network_mode'],
    [{ network_mode: 'container:abc' }, 'network_mode'],
    [{ command: [] }, 'command'],
    [{ command: ['a\0b'] }, 'command.0'],
    [{ command: ['x'.repeat(131_072)] }, 'command.0'],
    [{ profile: 'a b' }, 'profile'],
    [{ parameters: { '': 1 } }, 'parameters.'],
    [{ output_paths: ['relative'] }, 'output_paths.0'],
    [{ output_paths: ['/a/../b'] }, 'output_paths.0'],
    [{ input_files: { '../x': '' } }, 'input_files.../x'],
    [{ input_files: { 'a/': '' } }, 'input_files.a/'],
    [{ input_files: { a: { base64: '!!' } } }, 'input_files.a.base64'],
    [{ input_files: { a: { base64: 'AA==', mode: 511 } } }, 'input_files.a'],
    [{ volumes: [{ source: 'a', target: 'relative' }] }, 'volumes.0.target'],
    [{ volumes: [{ source: 'a', target: '/a', propagation: 'rshared' }] }, 'volumes.0'],
    [{ gpu: { count: 0 } }, 'gpu.count'],
    [{ gpu: { count: 'some' } }, 'gpu.count'],
    [{ gpu: { options: {} } }, 'gpu'],
    [{ build: { dockerfile: 'FROM a', files: { '/etc/x': '' } }, image: undefined }, 'build.files./etc/x'],
    [{ build: { dockerfile: 'FROM a', remote: 'http://x' }, image: undefined }, 'build'],
    [{ dockerfile: '', image: undefined }, 'dockerfile'],
  ])('refuses %j', (fields, path) => {
    expect(pathsOf(fields)).toEqual([path])
  })

  it('takes an empty entrypoint, which clears the image of its own', () => {
    expect(ExecuteTool.parse({ ...LEAST, entrypoint: [] }).entrypoint).toEqual([])
  })

  it('gives a GPU request the defaults of the contract', () => {
    expect(ExecuteTool.parse({ ...LEAST, gpu: {} }).gpu).toEqual({
      count: 'all',
      device_ids: [],
      capabilities: ['gpu'],
      driver: 'nvidia',
    })
  })

  it('mounts volumes read-only unless told otherwise', () => {
    expect(ExecuteTool.parse({ ...LEAST, volumes: [{ source: 'a', target: '/a' }] }).volumes).toEqual([
      { source: 'a', target: '/a', read_only: true },
    ])
  })

  it('keeps parameters as they were sent', () => {
    const parameters = { 'any name': [1, { a: null }], nested: { deep: { er: true } } }
    expect(ExecuteTool.parse({ ...LEAST, parameters }).parameters).toEqual(parameters)
  })

  it.each(['parameters', 'environment', 'labels', 'input_files'])(
    'lets a __proto__ in %s give nothing away',
    (field) => {
      const map: unknown = JSON.parse('{"__proto__":"x","a":"y"}')
      const parsed = ExecuteTool.safeParse({ ...LEAST, [field]: map })
      if (parsed.success) {
        const given = (parsed.data as unknown as Record<string, object>)[field] ?? {}
        expect([Object.prototype, null]).toContain(Object.getPrototypeOf(given))
        expect(Object.keys(given)).toEqual(['a'])
      }
      expect(({} as Record<string, unknown>)['a']).toBeUndefined()
    },
  )
})

describe('ListTools', () => {
  it('reads a query', () => {
    expect(
      ListTools.parse({
        session_id: 's1',
        status: 'running',
        tool_name: 'sum',
        limit: '10',
        cursor: 'exec_01900000-0000-7000-8000-000000000001',
      }),
    ).toEqual({
      session_id: 's1',
      status: 'running',
      tool_name: 'sum',
      limit: 10,
      cursor: 'exec_01900000-0000-7000-8000-000000000001',
    })
    expect(ListTools.parse({})).toEqual({})
  })

  it.each([
    { limit: '0' },
    { limit: '1001' },
    { limit: '-5' },
    { limit: '1e2' },
    { limit: '' },
    { status: 'done' },
    { session_id: '../x' },
  ])('refuses %j', (query) => {
    expect(ListTools.safeParse(query).success).toBe(false)
  })
})

describe('hasEnded', () => {
  it('tells the ends of a run from all that comes before', () => {
    expect(ToolStatus.options.filter(hasEnded)).toEqual(['completed', 'failed', 'timeout', 'cancelled'])
  })
})
