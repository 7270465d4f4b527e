import { describe, expect, it } from 'vitest'
import type { MountSpec } from '../../../src/engine/spec.ts'
import {
  planParkedTool,
  planProgram,
  planRelic,
  planTool,
  planUnstarted,
} from '../../../src/policy/container-policy.ts'
import { SERVICE, STRICT } from '../../../src/policy/profiles.ts'
import { relicRequest, toolRequest } from '../support/requests.ts'
import { thrown } from '../support/streams.ts'

const MIB = 1024 * 1024
const OUTPUT: MountSpec = { type: 'volume', target: '/output', readOnly: false }
const TMP: MountSpec = { type: 'volume', source: 'volume_s1_tmp', target: '/tmp', readOnly: false }

describe('planTool', () => {
  it('decides exactly this for the least request', () => {
    expect(planTool(toolRequest(), 'exec_1', STRICT, [OUTPUT])).toStrictEqual({
      environment: {
        HOME: '/tmp',
        TOOL_PARAMETERS: '{}',
        TOOL_NAME: 'sum',
        SESSION_ID: 's1',
        EXECUTION_ID: 'exec_1',
      },
      openStdin: false,
      resources: { memoryBytes: 512 * MIB, cpus: 1, pids: 256, openFiles: { soft: 1024, hard: 4096 } },
      sandbox: { readonlyRoot: true, capabilities: [], tmpfs: [{ target: '/tmp', bytes: 256 * MIB }] },
      mounts: [OUTPUT],
      ports: [],
    })
  })

  it('passes on what the request may decide', () => {
    const plan = planTool(
      toolRequest({
        command: ['python', '-c', 'x'],
        entrypoint: [],
        environment: { HOME: '/work', A: '1' },
        stdin: '',
        resource_limits: { memory_mb: 64, cpu_limit: 0.25, pids_limit: 8 },
        gpu: { count: 1 },
      }),
      'exec_1',
      STRICT,
      [],
    )
    expect(plan).toMatchObject({
      command: ['python', '-c', 'x'],
      entrypoint: [],
      environment: { HOME: '/work', A: '1' },
      openStdin: true,
      resources: { memoryBytes: 64 * MIB, cpus: 0.25, pids: 8 },
      gpu: { count: 1, deviceIds: [], capabilities: ['gpu'], driver: 'nvidia' },
    })
  })

  it("leaves HOME the image's under a writable root", () => {
    expect(planTool(toolRequest(), 'exec_1', SERVICE, []).environment).not.toHaveProperty('HOME')
  })

  it("takes the caller's mount at /tmp in place of the tmpfs", () => {
    expect(planTool(toolRequest(), 'exec_1', STRICT, [OUTPUT, TMP]).sandbox.tmpfs).toEqual([])
  })

  it('refuses variables that the service sets', () => {
    const request = toolRequest({ environment: { SESSION_ID: 'another' } })
    expect(thrown(() => planTool(request, 'exec_1', STRICT, []))).toMatchObject({ code: 'validation_failed' })
  })

  it('takes root and capabilities from the profile, never from the request', () => {
    const request = toolRequest({ labels: { privileged: 'true' }, parameters: { capabilities: ['SYS_ADMIN'] } })
    expect(planTool(request, 'exec_1', STRICT, []).sandbox).toMatchObject({ readonlyRoot: true, capabilities: [] })
    expect(planTool(request, 'exec_1', SERVICE, []).sandbox.capabilities).toEqual(SERVICE.capabilities)
  })
})

describe('planParkedTool', () => {
  const request = toolRequest({
    command: ['echo', 'secret'],
    environment: { A: 'secret' },
    parameters: { a: 'secret' },
    stdin: 'secret',
    resource_limits: { memory_mb: 64, cpu_limit: 0.25, pids_limit: 8 },
  })

  it.each([STRICT, SERVICE, { ...STRICT, user: '65534', runtime: 'runsc' }])(
    'is limited and hardened as the container of its own would be ($name $user)',
    (profile) => {
      const { command, environment, openStdin, ...own } = planTool(request, 'exec_1', profile, [OUTPUT])
      const { entrypoint, ...parked } = planParkedTool(request, profile, [OUTPUT], ['/wait'])
      const home = profile.readonlyRoot ? { HOME: '/tmp' } : {}
      expect(parked).toStrictEqual({ ...own, environment: home, openStdin: true })
      expect(entrypoint).toEqual(['/wait'])
      expect(environment).toMatchObject(home)
      expect(command).toEqual(['echo', 'secret'])
      expect(openStdin).toBe(true)
    },
  )

  it('has nothing of what the tool is told', () => {
    expect(JSON.stringify(planParkedTool(request, STRICT, [OUTPUT], ['/wait']))).not.toContain('secret')
  })
})

describe('a plan', () => {
  const SANDBOXED = { ...STRICT, runtime: 'runsc', user: '7:7' }
  const plans = (profile: typeof STRICT) => [
    planTool(toolRequest(), 'exec_1', profile, []),
    planRelic(relicRequest(), profile, []),
  ]

  it("has the profile's runtime and user, and none where the profile has none", () => {
    for (const plan of plans(SANDBOXED)) expect(plan).toMatchObject({ user: '7:7', sandbox: { runtime: 'runsc' } })
    for (const plan of plans(STRICT)) {
      expect(plan).not.toHaveProperty('user')
      expect(plan.sandbox).not.toHaveProperty('runtime')
    }
  })
})

describe('planRelic', () => {
  it('decides exactly this for the least request', () => {
    expect(planRelic(relicRequest(), SERVICE, [])).toStrictEqual({
      environment: {},
      openStdin: false,
      resources: { memoryBytes: 1024 * MIB, cpus: 2, pids: 512, openFiles: { soft: 4096, hard: 16_384 } },
      sandbox: {
        readonlyRoot: false,
        capabilities: SERVICE.capabilities,
        tmpfs: [{ target: '/tmp', bytes: 256 * MIB }],
      },
      mounts: [],
      ports: [],
    })
  })

  it('passes on what the request may decide, and publishes no port by the engine', () => {
    const request = relicRequest({
      command: ['serve'],
      entrypoint: ['/bin/x'],
      environment: { A: '1' },
      ports: { 8000: 0 },
      gpu: { device_ids: ['0'] },
    })
    expect(planRelic(request, SERVICE, [TMP])).toMatchObject({
      command: ['serve'],
      entrypoint: ['/bin/x'],
      environment: { A: '1' },
      ports: [],
      mounts: [TMP],
      sandbox: { tmpfs: [] },
      gpu: { count: 'all', deviceIds: ['0'] },
    })
  })

  it('gives a writable home under a read-only root, unless the caller names one', () => {
    expect(planRelic(relicRequest(), STRICT, []).environment).toEqual({ HOME: '/tmp' })
    expect(planRelic(relicRequest({ environment: { HOME: '/data' } }), STRICT, []).environment).toEqual({
      HOME: '/data',
    })
  })
})

describe('planProgram', () => {
  it('gives a program of the service’s own its mounts and little else', () => {
    const plan = planProgram(['/.toolbox/loopback-alone'], [TMP], undefined)
    expect(plan).toStrictEqual({
      ...planUnstarted([TMP]),
      entrypoint: ['/.toolbox/loopback-alone'],
      resources: { memoryBytes: 64 * MIB, cpus: 1, pids: 64, openFiles: { soft: 64, hard: 64 } },
    })
    expect(plan.sandbox).toStrictEqual({ readonlyRoot: true, capabilities: [], tmpfs: [] })
    expect(planProgram([], [], 'runsc').sandbox).toMatchObject({ runtime: 'runsc' })
  })
})

describe('planUnstarted', () => {
  it('is as little as there can be, and has a program, which some images have not', () => {
    expect(planUnstarted()).toEqual({
      entrypoint: ['none'],
      environment: {},
      openStdin: false,
      resources: { memoryBytes: 16 * MIB, cpus: 1, pids: 8, openFiles: { soft: 64, hard: 64 } },
      sandbox: { readonlyRoot: true, capabilities: [], tmpfs: [] },
      mounts: [],
      ports: [],
    })
    expect(planUnstarted([TMP]).mounts).toEqual([TMP])
  })
})
