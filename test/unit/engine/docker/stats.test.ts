import { describe, expect, it } from 'vitest'
import { StatsMessage, sampleOf } from '../../../../src/engine/docker/stats.ts'

/** Docker 20.10 on cgroup v1, a container on a bridge. */
const CGROUP_V1 = {
  read: '2026-11-21T04:05:06.789123456Z',
  preread: '0001-01-01T00:00:00Z',
  pids_stats: { current: 3, limit: 256 },
  blkio_stats: {
    io_service_bytes_recursive: [
      { major: 254, minor: 0, op: 'Read', value: 4096 },
      { major: 254, minor: 0, op: 'Write', value: 8192 },
      { major: 254, minor: 0, op: 'Sync', value: 12288 },
      { major: 254, minor: 0, op: 'Async', value: 0 },
      { major: 254, minor: 0, op: 'Discard', value: 0 },
      { major: 254, minor: 0, op: 'Total', value: 12288 },
      { major: 8, minor: 0, op: 'Read', value: 1000 },
    ],
    io_serviced_recursive: [],
  },
  num_procs: 0,
  storage_stats: {},
  cpu_stats: {
    cpu_usage: {
      total_usage: 1234567890,
      percpu_usage: [1000000000, 234567890],
      usage_in_kernelmode: 100000000,
      usage_in_usermode: 1100000000,
    },
    system_cpu_usage: 987654321000000000,
    online_cpus: 2,
    throttling_data: { periods: 0, throttled_periods: 0, throttled_time: 0 },
  },
  precpu_stats: { cpu_usage: { total_usage: 0 } },
  memory_stats: {
    usage: 10_485_760,
    max_usage: 20_971_520,
    stats: { cache: 4_194_304, inactive_file: 1_000_000, total_inactive_file: 2_097_152, rss: 6_000_000 },
    limit: 536_870_912,
  },
  name: '/tool_sum_s1_0a1b2c3d',
  id: 'c0'.repeat(32),
  networks: {
    eth0: { rx_bytes: 1000, rx_packets: 10, tx_bytes: 500, tx_packets: 5 },
    eth1: { rx_bytes: 24, rx_packets: 1, tx_bytes: 12, tx_packets: 1 },
  },
}

/** Docker 26 on cgroup v2, a container without a network. */
const CGROUP_V2 = {
  read: '2026-11-21T04:05:06.789Z',
  preread: '2026-11-21T04:05:05.789Z',
  pids_stats: { current: 1, limit: 256 },
  blkio_stats: {
    io_service_bytes_recursive: [
      { major: 259, minor: 0, op: 'read', value: 2048 },
      { major: 259, minor: 0, op: 'write', value: 1024 },
    ],
    io_serviced_recursive: null,
  },
  cpu_stats: { cpu_usage: { total_usage: 5_000_000, usage_in_kernelmode: 1, usage_in_usermode: 2 }, online_cpus: 2 },
  memory_stats: {
    usage: 8_388_608,
    stats: { active_anon: 4096, anon: 4_000_000, file: 3_000_000, inactive_file: 1_048_576 },
    limit: 536_870_912,
  },
}

/** Podman 4.3, which calls its networks `network`, keeps no statistics of memory and fills max_usage with the limit. */
const PODMAN = {
  read: '2026-11-21T05:05:06.789012345+01:00',
  preread: '0001-01-01T00:00:00Z',
  pids_stats: { current: 2 },
  blkio_stats: {
    io_service_bytes_recursive: [
      { major: 0, minor: 0, op: 'Read', value: 0 },
      { major: 0, minor: 0, op: 'Write', value: 77 },
    ],
  },
  cpu_stats: { cpu_usage: { total_usage: 42_000_000, usage_in_kernelmode: 1, usage_in_usermode: 2 }, online_cpus: 2 },
  memory_stats: { usage: 1_000_000, max_usage: 536_870_912, limit: 536_870_912, stats: null },
  network: { eth0: { rx_bytes: 70, tx_bytes: 80 } },
}

const sample = (message: unknown) => sampleOf(StatsMessage.parse(message))

describe('sampleOf', () => {
  it('reads cgroup v1, with reads and writes of all devices and networks summed', () => {
    expect(sample(CGROUP_V1)).toEqual({
      at: new Date('2026-11-21T04:05:06.789Z'),
      cpuNanoseconds: 1_234_567_890,
      memoryBytes: 8_388_608,
      memoryLimitBytes: 536_870_912,
      memoryPeakBytes: 20_971_520,
      networkRxBytes: 1024,
      networkTxBytes: 512,
      diskReadBytes: 5096,
      diskWriteBytes: 8192,
      pids: 3,
    })
  })

  it('reads cgroup v2, with null for what it does not tell', () => {
    expect(sample(CGROUP_V2)).toEqual({
      at: new Date('2026-11-21T04:05:06.789Z'),
      cpuNanoseconds: 5_000_000,
      memoryBytes: 7_340_032,
      memoryLimitBytes: 536_870_912,
      memoryPeakBytes: null,
      networkRxBytes: null,
      networkTxBytes: null,
      diskReadBytes: 2048,
      diskWriteBytes: 1024,
      pids: 1,
    })
  })

  it('reads Podman', () => {
    expect(sample(PODMAN)).toMatchObject({
      at: new Date('2026-11-21T04:05:06.789Z'),
      cpuNanoseconds: 42_000_000,
      memoryBytes: 1_000_000,
      networkRxBytes: 70,
      networkTxBytes: 80,
      diskReadBytes: 0,
      diskWriteBytes: 77,
      pids: 2,
    })
  })

  it('tells no peak where Podman fills the field with the limit or with 0', () => {
    expect(sample(PODMAN)?.memoryPeakBytes).toBeNull()
    const zero = { ...PODMAN, memory_stats: { ...PODMAN.memory_stats, max_usage: 0 } }
    expect(sample(zero)?.memoryPeakBytes).toBeNull()
  })

  it('tells a peak that reached the limit, where the kernel keeps one', () => {
    const full = { ...CGROUP_V1, memory_stats: { ...CGROUP_V1.memory_stats, max_usage: 536_870_912 } }
    expect(sample(full)?.memoryPeakBytes).toBe(536_870_912)
  })

  it('gives nothing for the empty message of a container that does not run', () => {
    const stopped = {
      read: '0001-01-01T00:00:00Z',
      pids_stats: {},
      blkio_stats: { io_service_bytes_recursive: null },
      cpu_stats: { cpu_usage: { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 } },
      memory_stats: {},
    }
    expect(sample(stopped)).toBeUndefined()
    expect(sample({ read: '0001-01-01T00:00:00Z' })).toBeUndefined()
  })

  it('never invents a 0: blocks and pids that are not told are null', () => {
    const { blkio_stats: _blocks, pids_stats: _pids, ...rest } = CGROUP_V2
    expect(sample(rest)).toMatchObject({ diskReadBytes: null, diskWriteBytes: null, pids: null })
    expect(sample({ ...CGROUP_V2, blkio_stats: { io_service_bytes_recursive: null }, pids_stats: null })).toMatchObject(
      { diskReadBytes: null, diskWriteBytes: null, pids: null },
    )
  })

  // The docker CLI takes the cache away only where it is less than the use.
  it('tells all of the use where the cache is counted as more than that', () => {
    const message = { ...CGROUP_V2, memory_stats: { usage: 1000, stats: { inactive_file: 5000 }, limit: 10_000 } }
    expect(sample(message)?.memoryBytes).toBe(1000)
  })

  it.each([
    ['a counter that is text', { ...CGROUP_V2, cpu_stats: { cpu_usage: { total_usage: '5' } } }],
    ['a negative counter', { ...CGROUP_V2, memory_stats: { usage: -1 } }],
    ['no time', { ...CGROUP_V2, read: undefined }],
    ['a list', []],
  ])('refuses a message with %s', (_, message) => {
    expect(StatsMessage.safeParse(message).success).toBe(false)
  })
})
