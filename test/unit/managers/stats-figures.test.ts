import { describe, expect, it } from 'vitest'
import type { ContainerStats } from '../../../src/domain/stats.ts'
import type { StatsSample } from '../../../src/engine/engine.ts'
import { SampleRing } from '../../../src/managers/sample-ring.ts'
import { cpuUse, figuresOf, historyOf, totalsOf } from '../../../src/managers/stats-figures.ts'
import { statsSample } from '../../fixtures/stats-sample.ts'

const AT = Date.parse('2026-11-21T04:05:06.000Z')
const MIB = 1024 * 1024
const moment = (milliseconds: number) => new Date(AT + milliseconds)

function sample(milliseconds: number, cpuNanoseconds: number, fields: Partial<StatsSample> = {}): StatsSample {
  return statsSample({ at: moment(milliseconds), cpuNanoseconds, ...fields })
}

function ringOf(...samples: StatsSample[]): SampleRing {
  const ring = new SampleRing(10)
  for (const each of samples) ring.push(each)
  return ring
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
    ...figuresOf(undefined, undefined),
    ...fields,
  }
}

describe('cpuUse', () => {
  it.each([
    ['a core', 1000, 1_000_000_000, 100],
    ['two cores', 1000, 2_000_000_000, 200],
    ['half a core for half a second', 500, 250_000_000, 50],
    ['next to nothing', 1000, 123_456, 0.01],
    ['nothing', 1000, 0, 0],
  ])('tells %s', (_, milliseconds, nanoseconds, percent) => {
    const [previous, last] = [sample(0, 7_000_000_000), sample(milliseconds, 7_000_000_000 + nanoseconds)]
    expect(cpuUse(previous, last, undefined)).toEqual({ percent, seconds: milliseconds / 1000 })
    expect(cpuUse(previous, last, moment(-60_000))).toEqual({ percent, seconds: milliseconds / 1000 })
  })

  it('is that since the start where there is one sample alone', () => {
    expect(cpuUse(undefined, sample(0, 1_000_000_000), moment(-4_000))).toEqual({ percent: 25, seconds: 4 })
  })

  it('is that since the start where the other sample is of an earlier process', () => {
    const last = sample(1_000, 300_000_000)
    expect(cpuUse(sample(0, 100_000_000), last, moment(400))).toEqual({ percent: 50, seconds: 0.6 })
    expect(cpuUse(sample(0, 9_000_000_000), last, moment(-3_000))).toEqual({ percent: 7.5, seconds: 4 })
  })

  it('tells nothing where there is nothing to measure between', () => {
    const one = sample(0, 5)
    expect(cpuUse(undefined, one, undefined)).toBeNull()
    expect(cpuUse(one, undefined, moment(-9_000))).toBeNull()
    expect(cpuUse(undefined, undefined, undefined)).toBeNull()
    expect(cpuUse(one, sample(0, 9), undefined)).toBeNull()
    expect(cpuUse(sample(1000, 5), sample(0, 9), undefined)).toBeNull()
    expect(cpuUse(sample(0, 9_000), sample(1000, 5), undefined)).toBeNull()
    // What it takes to start a process, over next to no time, would be more cores than there are.
    expect(cpuUse(undefined, sample(10, 50_000_000), moment(0))).toBeNull()
  })
})

describe('figuresOf', () => {
  const ring = ringOf(
    sample(0, 0, { memoryBytes: MIB, memoryLimitBytes: 4 * MIB }),
    sample(1000, 500_000_000, { memoryBytes: 2 * MIB, memoryLimitBytes: 4 * MIB, networkRxBytes: 0, pids: 3 }),
  )

  it('tells the newest sample, with null for what is not known', () => {
    expect(figuresOf(ring, moment(-5_000))).toEqual({
      cpu_percent: 50,
      cpu_window_seconds: 1,
      memory_used_mb: 2,
      memory_limit_mb: 4,
      memory_percent: 50,
      network_rx_mb: 0,
      network_tx_mb: null,
      disk_read_mb: null,
      disk_write_mb: null,
      pids: 3,
      sampled_at: '2026-11-21T04:05:07.000Z',
    })
  })

  it('tells nothing of a process that has not been sampled since it was started', () => {
    const nothing = figuresOf(undefined, undefined)
    expect(figuresOf(ring, moment(1_500))).toEqual(nothing)
    expect(Object.values(nothing)).toEqual(Object.keys(nothing).map(() => null))
  })
})

describe('historyOf', () => {
  const ring = ringOf(
    sample(0, 8_000_000_000),
    sample(1000, 8_500_000_000),
    // Its process was started again.
    sample(2000, 100_000_000),
    sample(3000, 1_100_000_000),
  )
  const cpu = (since: number, startedAt: Date | undefined) =>
    historyOf(ring, startedAt, moment(since)).map(({ sampled_at, cpu_percent }) => [
      Date.parse(sampled_at) - AT,
      cpu_percent,
    ])

  it('tells what was sampled since, oldest first, and no CPU over a restart', () => {
    expect(cpu(0, moment(1_500))).toEqual([
      [0, null],
      [1000, 50],
      [2000, 20],
      [3000, 100],
    ])
    expect(cpu(0, undefined)).toEqual([
      [0, null],
      [1000, 50],
      [2000, null],
      [3000, 100],
    ])
  })

  it('measures the oldest that is asked for against the one before it', () => {
    expect(cpu(1000, moment(1_500))).toEqual([
      [1000, 50],
      [2000, 20],
      [3000, 100],
    ])
    expect(cpu(2500, moment(1_500))).toEqual([[3000, 100]])
  })

  it('is empty where nothing was sampled then', () => {
    expect(cpu(3001, undefined)).toEqual([])
    expect(historyOf(undefined, undefined, moment(0))).toEqual([])
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
