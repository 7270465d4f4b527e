import { describe, expect, it } from 'vitest'
import { healthReasons, type WorkerCondition } from '../../../src/policy/worker-health.ts'

const POLICY = {
  max_age_hours: 72,
  disk_percent: 80,
  memory_percent: 90,
  health_failures: 3,
  action: 'report',
} as const
const WELL: WorkerCondition = { status: 'running', ageHours: 1, diskPercent: 1, memoryPercent: 1, failingStreak: 0 }

const reasons = (condition: Partial<WorkerCondition>, policy: object = {}) =>
  healthReasons({ ...WELL, ...condition }, { ...POLICY, ...policy })
const codes = (condition: Partial<WorkerCondition>, policy?: object) =>
  reasons(condition, policy).map(({ code }) => code)

describe('healthReasons', () => {
  it('has none for a worker that runs well', () => {
    expect(reasons({})).toEqual([])
  })

  it.each([
    ['ageHours', 72, 72.01, 'age'],
    ['diskPercent', 80, 80.1, 'disk'],
    ['memoryPercent', 90, 90.1, 'memory'],
    ['failingStreak', 2, 3, 'healthcheck'],
  ] as const)('allows %s %d, and not %d', (field, most, more, code) => {
    expect(reasons({ [field]: most })).toEqual([])
    expect(reasons({ [field]: more })).toEqual([{ code, message: expect.stringContaining(String(more)) }])
  })

  it.each(['preparing', 'starting', 'paused', 'stopped', 'completed', 'failed'])('names that it is %s', (status) => {
    expect(reasons({ status })).toEqual([{ code: 'not_running', message: `It is ${status}` }])
  })

  it('takes what is not known for no reason', () => {
    const unknown = { ageHours: null, diskPercent: null, memoryPercent: null, failingStreak: null }
    expect(reasons(unknown, { max_age_hours: 0.001, health_failures: 1 })).toEqual([])
  })

  it('follows the policy of the worker', () => {
    expect(
      codes({ ageHours: 2, diskPercent: 50, memoryPercent: 50, failingStreak: 1 }, { max_age_hours: 1.5 }),
    ).toEqual(['age'])
    expect(codes({ diskPercent: 50 }, { disk_percent: 49 })).toEqual(['disk'])
    expect(codes({ memoryPercent: 50 }, { memory_percent: 49 })).toEqual(['memory'])
    expect(codes({ failingStreak: 1 }, { health_failures: 1 })).toEqual(['healthcheck'])
  })

  it('tells what is, and what the policy has at most', () => {
    const bad = { ageHours: 100, diskPercent: 99, memoryPercent: 98, failingStreak: 9 }
    expect(reasons(bad).map(({ message }) => message)).toEqual([
      'Its container is 100 hours old, more than 72',
      "The workspace's file system is 99 % full, more than 80 %",
      'It uses 98 % of its memory, more than 90 %',
      'Its health check failed 9 times in a row',
    ])
  })

  it('gives all that there are', () => {
    const bad = { status: 'paused', ageHours: 100, diskPercent: 99, memoryPercent: 99, failingStreak: 9 }
    expect(codes(bad)).toEqual(['not_running', 'age', 'disk', 'memory', 'healthcheck'])
  })
})
