import { describe, expect, it } from 'vitest'
import type { ContainerStats } from '../../../src/domain/stats.ts'
import type { StatsSample } from '../../../src/engine/engine.ts'
import { cpuPercent, totalsOf } from '../../../src/managers/stats-manager.ts'

const AT = Date.parse('2026-11-21T04:05:06.000Z')

function sample(milliseconds: number, cpuNanoseconds: number): StatsSample {
  return {
    at: new Date(AT + milliseconds),
    cpuNanoseconds,
    memoryBytes: 0,
    memoryLimitBytes: 0,
    memoryPeakBytes: null,
    networkRxBytes: null,
    networkTxBytes: null,
    diskReadBytes: null,
    diskWriteBytes: null,
    pids: null,
  }
}

function stats(fields: Partial<ContainerStats>): ContainerStats {
  return {
    container_id: 'c0'.repeat(32),
    name: 'tool_sum_s1_0a1b2c3d',
    kind: 'tool',
    id: 'exec_1',
    session_id: 's1',
    status: 'running',
    running_for_seconds: 1,
    cpu_percent: null,
    memory_used_mb: null,
    memory_limit_mb: null,
    memory_percent: null,
    network_rx_mb: null,
    network_tx_mb: null,
    disk_read_mb: null,
    disk_write_mb: null,
    pids: null,
    sampled_at: null,
    ...fields,
  }
}

describe('cpuPercent', () => {
  it.each([
    ['a core', 1000, 1_000_000_000, 100],
    ['two cores', 1000, 2_000_000_000, 200],
    ['half a core for half a second', 500, 250_000_000, 50],
    ['next to nothing', 1000, 123_456, 0.01],
    ['nothing', 1000, 0, 0],
  ])('tells %s', (_, milliseconds, nanoseconds, percent) => {
    expect(cpuPercent(sample(0, 7_000_000_000), sample(milliseconds, 7_000_000_000 + nanoseconds))).toBe(percent)
  })

  it('tells nothing where there are not two samples of different times', () => {
    const one = sample(0, 5)
    expect(cpuPercent(undefined, one)).toBeNull()
    expect(cpuPercent(one, undefined)).toBeNull()
    expect(cpuPercent(undefined, undefined)).toBeNull()
    expect(cpuPercent(one, sample(0, 9))).toBeNull()
    expect(cpuPercent(sample(1000, 5), sample(0, 9))).toBeNull()
  })

  it('is never negative, should a counter begin anew', () => {
    expect(cpuPercent(sample(0, 9_000), sample(1000, 5)) ?? 0).toBeGreaterThanOrEqual(0)
  })
})

describe('totalsOf', () => {
  it('sums what is known, and counts all', () => {
    const items = [
      stats({ cpu_percent: 50.5, memory_used_mb: 10, memory_limit_mb: 512, network_rx_mb: 1, pids: 3 }),
      stats({ cpu_percent: 150, memory_used_mb: 20.25, memory_limit_mb: 512, disk_read_mb: 2, disk_write_mb: 4 }),
      stats({ status: 'exited', network_tx_mb: 0.5 }),
    ]
    expect(totalsOf(items)).toEqual({
      containers: 3,
      running: 2,
      cpu_percent: 200.5,
      memory_used_mb: 30.25,
      memory_limit_mb: 1024,
      network_rx_mb: 1,
      network_tx_mb: 0.5,
      disk_read_mb: 2,
      disk_write_mb: 4,
      pids: 3,
    })
  })

  it('shows no rounding of binary fractions', () => {
    expect(totalsOf([stats({ cpu_percent: 0.1 }), stats({ cpu_percent: 0.2 })]).cpu_percent).toBe(0.3)
  })

  it('is all zeros for no containers', () => {
    expect(Object.values(totalsOf([]))).toEqual(Array.from({ length: 10 }, () => 0))
  })
})
