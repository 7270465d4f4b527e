import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createContainerBody, createNetworkBody, isolationOf } from '../../../../src/engine/docker/create-options.ts'
import type { ContainerSpec } from '../../../../src/engine/spec.ts'

const MIB = 1024 * 1024

const LEAST: ContainerSpec = {
  name: 'tool_sum_s1_0a1b2c3d',
  imageId: `sha256:${'a'.repeat(64)}`,
  environment: { A: '1', B: 'x=y', EMPTY: '' },
  labels: { 'container-orchestrator.kind': 'tool' },
  openStdin: false,
  resources: { memoryBytes: 512 * MIB, cpus: 0.5, pids: 256, openFiles: { soft: 1024, hard: 4096 } },
  sandbox: { readonlyRoot: true, capabilities: [], tmpfs: [{ target: '/tmp', bytes: 256 * MIB }] },
  mounts: [],
  network: { mode: 'none' },
  ports: [],
}

const MOST: ContainerSpec = {
  ...LEAST,
  entrypoint: ['/bin/sh', '-c'],
  command: ['echo hi'],
  user: '1000:1000',
  workingDir: '/work',
  openStdin: true,
  sandbox: { readonlyRoot: false, capabilities: ['CHOWN', 'SETUID'], tmpfs: [], runtime: 'runsc' },
  cgroupParent: '/containers',
  mounts: [
    { type: 'volume', target: '/output', readOnly: false },
    { type: 'volume', source: 'volume_s1_data', target: '/data', readOnly: true },
    { type: 'bind', source: '/srv/models', target: '/models', readOnly: true },
  ],
  network: { mode: 'network', networkId: 'n1', aliases: ['db'] },
  ports: [{ containerPort: 8000, hostIp: '127.0.0.1', hostPort: 0 }],
  gpu: { count: 'all', deviceIds: [], capabilities: ['gpu'], driver: 'nvidia' },
}

interface Body {
  HostConfig: Record<string, unknown>
  [key: string]: unknown
}
const bodyOf = (spec: ContainerSpec) => createContainerBody(spec) as Body

describe('createContainerBody', () => {
  it('asks for exactly this for a tool', () => {
    expect(createContainerBody(LEAST)).toEqual({
      Image: LEAST.imageId,
      Env: ['A=1', 'B=x=y', 'EMPTY='],
      Labels: { 'container-orchestrator.kind': 'tool' },
      Tty: false,
      OpenStdin: false,
      StdinOnce: false,
      AttachStdin: false,
      AttachStdout: true,
      AttachStderr: true,
      Healthcheck: { Test: ['NONE'] },
      StopSignal: 'SIGTERM',
      HostConfig: {
        Memory: 512 * MIB,
        MemorySwap: 512 * MIB,
        NanoCpus: 500_000_000,
        PidsLimit: 256,
        Ulimits: [
          { Name: 'nofile', Soft: 1024, Hard: 4096 },
          { Name: 'core', Soft: 0, Hard: 0 },
        ],
        ReadonlyRootfs: true,
        CapDrop: ['ALL'],
        CapAdd: [],
        SecurityOpt: ['no-new-privileges'],
        Privileged: false,
        Init: true,
        AutoRemove: false,
        RestartPolicy: { Name: 'no' },
        IpcMode: 'private',
        CgroupnsMode: 'private',
        OomScoreAdj: 500,
        ShmSize: 64 * MIB,
        LogConfig: { Type: 'local', Config: { 'max-size': '10m', 'max-file': '3', compress: 'false' } },
        Tmpfs: { '/tmp': `rw,nosuid,nodev,noexec,mode=1777,size=${256 * MIB}` },
        Mounts: [],
        NetworkMode: 'none',
        Dns: ['127.0.0.1'],
        DnsSearch: ['.'],
        DnsOptions: ['ndots:1', 'timeout:1', 'attempts:2'],
        PublishAllPorts: false,
        PortBindings: {},
      },
    })
  })

  it('asks for all that a spec can say', () => {
    const body = bodyOf(MOST)
    expect(body).toMatchObject({
      Entrypoint: ['/bin/sh', '-c'],
      Cmd: ['echo hi'],
      User: '1000:1000',
      WorkingDir: '/work',
      OpenStdin: true,
      StdinOnce: true,
      AttachStdin: true,
      ExposedPorts: { '8000/tcp': {} },
      NetworkingConfig: { EndpointsConfig: { n1: { Aliases: ['db'] } } },
    })
    expect(body.HostConfig).toMatchObject({
      ReadonlyRootfs: false,
      CapAdd: ['CHOWN', 'SETUID'],
      Runtime: 'runsc',
      CgroupParent: '/containers',
      Tmpfs: {},
      NetworkMode: 'n1',
      PortBindings: { '8000/tcp': [{ HostIp: '127.0.0.1', HostPort: '0' }] },
      Mounts: [
        { Type: 'volume', Target: '/output', ReadOnly: false },
        { Type: 'volume', Source: 'volume_s1_data', Target: '/data', ReadOnly: true },
        {
          Type: 'bind',
          Source: '/srv/models',
          Target: '/models',
          ReadOnly: true,
          BindOptions: { Propagation: 'rprivate' },
        },
      ],
    })
  })

  it('asks for no network at all of one that gets a file of hosts, which is the only bind of its own folders', () => {
    const network = { mode: 'none', hostsFile: '/var/lib/docker/volumes/toolbox/_data/hosts' } as const
    const { HostConfig, ...body } = bodyOf({ ...MOST, network })
    expect(body).toMatchObject({ NetworkDisabled: true })
    expect(body).not.toHaveProperty('NetworkingConfig')
    expect(HostConfig).toMatchObject({ NetworkMode: 'none' })
    expect((HostConfig['Mounts'] as unknown[]).slice(MOST.mounts.length)).toEqual([
      {
        Type: 'bind',
        Source: '/var/lib/docker/volumes/toolbox/_data/hosts',
        Target: '/etc/hosts',
        ReadOnly: true,
        BindOptions: { Propagation: 'rslave' },
      },
    ])
    expect(bodyOf(LEAST)).not.toHaveProperty('NetworkDisabled')
  })

  it('lets programs of a tmpfs be executed only where that is asked for, and says whose it is', () => {
    const tmpfs = [
      { target: '/tmp', bytes: MIB },
      { target: '/home/dev', bytes: 2 * MIB, executable: true, owner: { uid: 1000, gid: 100 } },
      { target: '/run/worker', bytes: 3 * MIB, executable: false, owner: { uid: 0, gid: 0 } },
    ]
    const body = bodyOf({ ...LEAST, sandbox: { ...LEAST.sandbox, tmpfs } })
    expect(body.HostConfig['Tmpfs']).toEqual({
      '/tmp': `rw,nosuid,nodev,noexec,mode=1777,size=${MIB}`,
      '/home/dev': `rw,nosuid,nodev,exec,mode=1777,size=${2 * MIB},uid=1000,gid=100`,
      '/run/worker': `rw,nosuid,nodev,noexec,mode=1777,size=${3 * MIB},uid=0,gid=0`,
    })
  })

  it('leaves a volume as it is where that is asked for', () => {
    const body = bodyOf({
      ...LEAST,
      mounts: [{ type: 'volume', source: 'v', target: '/v', readOnly: false, keepAsIs: true }],
    })
    expect(body.HostConfig['Mounts']).toEqual([
      { Type: 'volume', Source: 'v', Target: '/v', ReadOnly: false, VolumeOptions: { NoCopy: true } },
    ])
  })

  it('has the health check of the spec, as a program without a shell, in whole nanoseconds', () => {
    const healthcheck = { command: ['/.toolbox/check', 'a b'], intervalSeconds: 60, timeoutSeconds: 1.1, retries: 3 }
    expect(bodyOf({ ...LEAST, healthcheck })['Healthcheck']).toEqual({
      Test: ['CMD', '/.toolbox/check', 'a b'],
      Interval: 60_000_000_000,
      Timeout: 1_100_000_000,
      Retries: 3,
    })
    expect(bodyOf({ ...LEAST, healthcheck: { ...healthcheck, intervalSeconds: 1.000_000_000_4 } })).toMatchObject({
      Healthcheck: { Interval: 1_000_000_000 },
    })
  })

  it('gives the bridge no aliases', () => {
    const body = bodyOf({ ...LEAST, network: { mode: 'bridge' } })
    expect(body.HostConfig['NetworkMode']).toBe('bridge')
    // What has a way out asks whom the engine's host asks.
    for (const key of ['Dns', 'DnsSearch', 'DnsOptions']) expect(body.HostConfig).not.toHaveProperty(key)
    expect(body).not.toHaveProperty('NetworkingConfig')
  })

  it.each([
    ['all devices', { count: 'all', deviceIds: [] }, { Count: -1 }],
    ['two devices', { count: 2, deviceIds: [] }, { Count: 2 }],
    // The engine refuses a request with both.
    ['devices by id, and then no count', { count: 'all', deviceIds: ['GPU-1', '0'] }, { DeviceIDs: ['GPU-1', '0'] }],
  ] as const)('requests %s', (_, gpu, expected) => {
    const spec = { ...LEAST, gpu: { ...gpu, capabilities: ['gpu', 'utility'], driver: 'nvidia' } }
    expect(bodyOf(spec).HostConfig['DeviceRequests']).toEqual([
      { Driver: 'nvidia', Capabilities: [['gpu', 'utility']], ...expected },
    ])
  })

  it('requests no device where none was asked for', () => {
    expect(bodyOf(LEAST).HostConfig).not.toHaveProperty('DeviceRequests')
  })

  it('gives cores as whole billionths', () => {
    const nanos = (cpus: number) => bodyOf({ ...LEAST, resources: { ...LEAST.resources, cpus } }).HostConfig['NanoCpus']
    expect([0.1, 0.29, 1.1, 64].map(nanos)).toEqual([100_000_000, 290_000_000, 1_100_000_000, 64_000_000_000])
  })

  it('has, for any spec, no key beyond the known ones, and the constants as they are', () => {
    const text = fc.string({ maxLength: 20 })
    const word = fc.constantFrom('Privileged', 'Binds', 'host', '__proto__', 'HostConfig', 'CapAdd', '_body')
    const map = fc.dictionary(fc.oneof(text, word), fc.oneof(text, word), { maxKeys: 5 })
    const argv = fc.array(fc.oneof(text, word), { maxLength: 4 })
    const specs = fc.record({
      environment: map,
      labels: map,
      command: argv,
      entrypoint: argv,
      imageId: word,
      user: word,
    })
    fc.assert(
      fc.property(specs, fc.boolean(), (fields, whole) => {
        const body = bodyOf({ ...(whole ? MOST : LEAST), ...fields })
        const top = Object.keys(body).filter((key) => !KNOWN_KEYS.has(key))
        const host = Object.keys(body.HostConfig).filter((key) => !KNOWN_HOST_KEYS.has(key))
        expect({ top, host }).toEqual({ top: [], host: [] })
        expect(body.HostConfig).toMatchObject({
          Privileged: false,
          CapDrop: ['ALL'],
          SecurityOpt: ['no-new-privileges'],
          IpcMode: 'private',
          CgroupnsMode: 'private',
          OomScoreAdj: 500,
          AutoRemove: false,
          RestartPolicy: { Name: 'no' },
          PublishAllPorts: false,
        })
        expect(body.HostConfig['Dns'] ?? ['127.0.0.1']).toEqual(['127.0.0.1'])
        expect(body.HostConfig['MemorySwap']).toBe(body.HostConfig['Memory'])
        expect(Object.getPrototypeOf(body.HostConfig)).toBe(Object.prototype)
      }),
    )
  })

  it('never has what would give the host away', () => {
    for (const spec of [LEAST, MOST]) {
      for (const key of FORBIDDEN_HOST_KEYS) expect(bodyOf(spec).HostConfig).not.toHaveProperty(key)
    }
  })

  it('names a runtime and a cgroup only where the operator did', () => {
    for (const key of ['Runtime', 'CgroupParent']) expect(bodyOf(LEAST).HostConfig).not.toHaveProperty(key)
  })

  it('shares no array or map with the spec', () => {
    const body = bodyOf(MOST)
    expect(body['Cmd']).not.toBe(MOST.command)
    expect(body['Labels']).not.toBe(MOST.labels)
    expect(body.HostConfig['CapAdd']).not.toBe(MOST.sandbox.capabilities)
  })
})

const KNOWN_KEYS = new Set(
  `Image Entrypoint Cmd User WorkingDir Env Labels Tty OpenStdin StdinOnce AttachStdin AttachStdout AttachStderr
  Healthcheck StopSignal ExposedPorts HostConfig NetworkingConfig NetworkDisabled`.split(/\s+/),
)
const KNOWN_HOST_KEYS = new Set(
  `Memory MemorySwap NanoCpus PidsLimit Ulimits ReadonlyRootfs CapDrop CapAdd SecurityOpt Privileged Init AutoRemove
  RestartPolicy IpcMode ShmSize LogConfig Tmpfs Mounts NetworkMode PublishAllPorts PortBindings DeviceRequests
  Dns DnsSearch DnsOptions CgroupnsMode OomScoreAdj Runtime CgroupParent`.split(/\s+/),
)
const FORBIDDEN_HOST_KEYS = `Binds Devices DeviceCgroupRules PidMode UTSMode UsernsMode Cgroup Sysctls VolumesFrom
   VolumeDriver ExtraHosts Links GroupAdd OomKillDisable MaskedPaths ReadonlyPaths
  Isolation StorageOpt CpuRealtimeRuntime KernelMemory BlkioDeviceWriteBps ContainerIDFile`.split(/\s+/)

describe('createNetworkBody', () => {
  it.each([true, false])('asks for a bridge without IPv6 that looks for its name (internal: %s)', (internal) => {
    const labels = { 'container-orchestrator.kind': 'network' }
    expect(createNetworkBody({ name: 'session_s1', subnet: '10.213.0.0/27', internal, labels })).toEqual({
      Name: 'session_s1',
      CheckDuplicate: true,
      Driver: 'bridge',
      Internal: internal,
      EnableIPv6: false,
      IPAM: { Driver: 'default', Config: [{ Subnet: '10.213.0.0/27' }] },
      Options: {},
      Labels: labels,
    })
  })

  it('keeps the containers of an isolated network from each other', () => {
    const spec = { name: 'internal', subnet: '10.213.0.0/27', internal: true, labels: {} }
    expect(createNetworkBody({ ...spec, isolated: true })).toMatchObject({
      Internal: true,
      Options: { 'com.docker.network.bridge.enable_icc': 'false' },
    })
    expect(createNetworkBody({ ...spec, isolated: false })).toMatchObject({ Options: {} })
    expect(createNetworkBody(spec)).toMatchObject({ Options: {} })
  })

  it.each([
    ['gateway_isolated', { 'com.docker.network.bridge.gateway_mode_ipv4': 'isolated' }],
    ['inhibit_ipv4', { 'com.docker.network.bridge.inhibit_ipv4': 'true' }],
    ['none', {}],
  ] as const)('shuts a network off from the host by %s, and reads that from its options', (isolation, options) => {
    const spec = { name: 'session', subnet: '10.213.0.0/27', internal: true, labels: {}, isolation }
    expect(createNetworkBody(spec)).toMatchObject({ Options: options })
    expect(isolationOf({ ...options, 'com.docker.network.bridge.enable_icc': 'false' })).toBe(isolation)
  })

  it('believes no option with another value', () => {
    expect(isolationOf({ 'com.docker.network.bridge.inhibit_ipv4': 'false' })).toBe('none')
    expect(isolationOf({ 'com.docker.network.bridge.gateway_mode_ipv4': 'nat' })).toBe('none')
  })
})
