import { describe, expect, it } from 'vitest'
import { ContainerDetails, ContainerListItem, stateOf, summaryOf } from '../../../../src/engine/docker/state.ts'

const ID = 'c0'.repeat(32)

/** As Docker 20.10 answers, with what is not read left in here and there. */
function details(state: object = {}, fields: object = {}): unknown {
  return {
    Id: ID,
    Name: '/tool_sum_s1_0a1b2c3d',
    Image: 'sha256:abc',
    Created: '2026-11-21T04:05:06.789123456Z',
    RestartCount: 0,
    Config: { Hostname: 'c0c0', User: '1000:1000', Labels: { 'container-orchestrator.kind': 'tool' } },
    HostConfig: { Memory: 67_108_864, MemorySwap: 67_108_864, NanoCpus: 500_000_000, PidsLimit: 32 },
    State: {
      Status: 'exited',
      Running: false,
      ExitCode: 3,
      OOMKilled: false,
      Error: '',
      StartedAt: '2026-11-21T04:05:07.1Z',
      FinishedAt: '2026-11-21T04:05:08.2Z',
      ...state,
    },
    NetworkSettings: {
      Bridge: '',
      Networks: { session_s1: { NetworkID: 'n1', IPAddress: '10.213.0.2', Gateway: '10.213.0.1', Links: null } },
      Ports: { '8000/tcp': [{ HostIp: '127.0.0.1', HostPort: '32768' }], '9000/tcp': null },
    },
    ...fields,
  }
}

const read = (answer: unknown) => stateOf(ContainerDetails.parse(answer))

describe('stateOf', () => {
  it('reads an ended container', () => {
    expect(read(details())).toEqual({
      id: ID,
      name: 'tool_sum_s1_0a1b2c3d',
      imageId: 'sha256:abc',
      labels: { 'container-orchestrator.kind': 'tool' },
      status: 'exited',
      createdAt: new Date('2026-11-21T04:05:06.789Z'),
      startedAt: new Date('2026-11-21T04:05:07.100Z'),
      finishedAt: new Date('2026-11-21T04:05:08.200Z'),
      exitCode: 3,
      oomKilled: false,
      error: '',
      networks: [{ networkId: 'n1', networkName: 'session_s1', address: '10.213.0.2', gateway: '10.213.0.1' }],
      ports: [{ containerPort: 8000, hostIp: '127.0.0.1', hostPort: 32768 }],
      mounts: [],
      user: '1000:1000',
      limits: { memoryBytes: 67_108_864, cpus: 0.5, pids: 32 },
    })
  })

  it('tells a container without bounds by zeros, however an engine says so', () => {
    const none = { memoryBytes: 0, cpus: 0, pids: 0 }
    expect(read(details({}, { HostConfig: null })).limits).toEqual(none)
    expect(read(details({}, { HostConfig: { Memory: 0, NanoCpus: null, PidsLimit: -1 } })).limits).toEqual(none)
  })

  it('tells what is mounted where, by paths of the host; an anonymous one may have none', () => {
    const Mounts = [
      { Type: 'bind', Source: '/srv/data', Destination: '/data', RW: true },
      { Type: 'bind', Source: '/srv/books', Destination: '/books', RW: false },
      { Type: 'tmpfs', Source: '', Destination: '/tmp' },
      { Type: 'volume', Source: null, Destination: '/v' },
      { Type: 'volume', Destination: '/w' },
      { Type: 'volume', Name: 'cache', Source: '/var/lib/docker/volumes/cache/_data', Destination: '/c' },
    ]
    expect(read(details({}, { Mounts })).mounts).toEqual([
      { source: '/srv/data', target: '/data' },
      { source: '/srv/books', target: '/books', readOnly: true },
      { source: '', target: '/tmp' },
      { source: '', target: '/v' },
      { source: '', target: '/w' },
      { source: '/var/lib/docker/volumes/cache/_data', target: '/c', volume: 'cache' },
    ])
    expect(read(details({}, { Mounts: null })).mounts).toEqual([])
  })

  it.each(['starting', 'healthy', 'unhealthy'] as const)(
    'tells that a container is %s, and by what checks',
    (Status) => {
      const Health = {
        Status,
        FailingStreak: 2,
        Log: [
          { Start: '2026-11-21T04:05:07.5Z', End: '2026-11-21T04:05:07.6Z', ExitCode: 1, Output: 'no answer\n' },
          { Start: '2026-11-21T05:06:08+01:00', End: '2026-11-21T04:06:09Z', ExitCode: -1, Output: '' },
        ],
      }
      expect(read(details({ Health })).health).toEqual({
        status: Status,
        failingStreak: 2,
        checks: [
          { at: new Date('2026-11-21T04:05:07.500Z'), exitCode: 1, output: 'no answer\n' },
          { at: new Date('2026-11-21T04:06:08.000Z'), exitCode: -1, output: '' },
        ],
      })
    },
  )

  it('tells health before the first check', () => {
    expect(read(details({ Health: { Status: 'starting', FailingStreak: 0, Log: null } })).health).toEqual({
      status: 'starting',
      failingStreak: 0,
      checks: [],
    })
  })

  it.each([
    ['none', { Status: 'none', FailingStreak: 0, Log: [] }],
    ["Podman's empty word", { Status: '', FailingStreak: 0, Log: null }],
    ['null', null],
  ])('tells no health where the engine says %s', (_, Health) => {
    expect(read(details({ Health }))).not.toHaveProperty('health')
    expect(read(details())).not.toHaveProperty('health')
  })

  it.each(['running', 'paused'])('tells no end of a %s container, though Docker tells the one before', (Status) => {
    const state = read(details({ Status }))
    expect(state).not.toHaveProperty('finishedAt')
    expect(state.startedAt).toEqual(new Date('2026-11-21T04:05:07.100Z'))
  })

  it("takes Go's zero time for never", () => {
    const never = { Status: 'created', StartedAt: '0001-01-01T00:00:00Z', FinishedAt: '0001-01-01T00:00:00Z' }
    const state = read(details(never))
    expect(state).not.toHaveProperty('startedAt')
    expect(state).not.toHaveProperty('finishedAt')
  })

  it.each([
    ['configured', 'created'],
    ['initialized', 'created'],
    ['stopped', 'exited'],
    ['stopping', 'running'],
    ['restarting', 'restarting'],
    ['removing', 'removing'],
    ['dead', 'dead'],
  ])("reads the status %s, Podman's or Docker's, as %s", (Status, status) => {
    expect(read(details({ Status })).status).toBe(status)
  })

  it('refuses a status that no engine has, as a fault of the answer', () => {
    const parsed = ContainerDetails.safeParse(details({ Status: 'levitating' }))
    expect(parsed.success).toBe(false)
    expect(JSON.stringify(parsed.error?.issues)).toContain('Status')
  })

  it('survives null where Docker and Podman answer it', () => {
    const state = read(
      details({ Error: null }, { Config: { Labels: null }, NetworkSettings: { Networks: null, Ports: null } }),
    )
    expect(state).toMatchObject({ labels: {}, error: '', networks: [], ports: [] })
  })

  it("keeps the engine's words on a failed start, and the flag of the kernel", () => {
    expect(read(details({ ExitCode: 127, Error: 'exec: "x": not found', OOMKilled: true }))).toMatchObject({
      exitCode: 127,
      error: 'exec: "x": not found',
      oomKilled: true,
    })
  })
})

describe('summaryOf', () => {
  const item = {
    Id: ID,
    Names: ['/a', '/b/a'],
    ImageID: 'sha256:abc',
    Labels: null,
    State: 'running',
    Created: 1_795_233_906,
  }

  it('reads an item of a list', () => {
    expect(summaryOf(ContainerListItem.parse(item))).toEqual({
      id: ID,
      name: 'a',
      imageId: 'sha256:abc',
      labels: {},
      status: 'running',
      createdAt: new Date(1_795_233_906_000),
    })
  })

  it('survives a container that is losing its name', () => {
    expect(summaryOf(ContainerListItem.parse({ ...item, Names: [], State: 'removing' })).name).toBe('')
  })
})
