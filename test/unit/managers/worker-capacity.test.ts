import { describe, expect, it } from 'vitest'
import { capacityOf, requireCapacity, type WorkerLimits } from '../../../src/managers/worker-capacity.ts'
import { workerRequest } from '../support/requests.ts'
import { thrown } from '../support/streams.ts'

const GIB = 1024 ** 3
const HOST = { memoryBytes: 64 * GIB, cores: 16 }
const NONE: WorkerLimits = { workers: undefined, memoryBytes: undefined, cpus: undefined }

const running = (...limits: [memory_limit: string, cpu_limit: number][]) =>
  limits.map(([memory_limit, cpu_limit], index) => workerRequest({ worker_id: `w${index}`, memory_limit, cpu_limit }))
const ask = (limits: Partial<WorkerLimits>, used: [string, number][], memory_limit = '1g', cpu_limit = 1) =>
  requireCapacity(
    workerRequest({ memory_limit, cpu_limit }),
    capacityOf(running(...used), HOST, { ...NONE, ...limits }),
  )

describe('capacityOf', () => {
  it('is what the running workers may use together, beside what there is and what is allowed', () => {
    const limits = { workers: 5, memoryBytes: 32 * GIB, cpus: 8 }
    expect(capacityOf(running(['4g', 2], ['512m', 0.5]), HOST, limits)).toEqual({
      running: 2,
      memory_limit_bytes: 4.5 * GIB,
      cpu_limit: 2.5,
      host: { memory_bytes: 64 * GIB, cores: 16 },
      allowed: { workers: 5, memory_bytes: 32 * GIB, cpus: 8 },
    })
  })

  it('is nothing of nothing, and null where there is no bound', () => {
    expect(capacityOf([], HOST, NONE)).toMatchObject({
      running: 0,
      memory_limit_bytes: 0,
      cpu_limit: 0,
      allowed: { workers: null, memory_bytes: null, cpus: null },
    })
  })

  it('shows a bound of nothing as one', () => {
    expect(capacityOf([], HOST, { workers: 0, memoryBytes: 0, cpus: 0 }).allowed).toEqual({
      workers: 0,
      memory_bytes: 0,
      cpus: 0,
    })
  })

  it('shows no rounding of binary fractions', () => {
    expect(capacityOf(running(['1g', 0.1], ['1g', 0.2]), HOST, NONE).cpu_limit).toBe(0.3)
  })
})

describe('requireCapacity', () => {
  it('takes what just fits, although sums of fractions are not exact', () => {
    expect(() => ask({ cpus: 3.3 }, [['1g', 1.1]], '1g', 2.2)).not.toThrow()
    expect(() => ask({ cpus: 3.3 }, [['1g', 1.1]], '1g', 2.201)).toThrow()
  })

  it('lets any worker in where there is no bound, even beyond the host', () => {
    expect(ask({}, [['1t', 1000]], '1t', 1000)).toBeUndefined()
  })

  it('lets as many in as there may be', () => {
    expect(ask({ workers: 2 }, [['1g', 1]])).toBeUndefined()
    expect(ask({ memoryBytes: 3 * GIB }, [['2g', 1]])).toBeUndefined()
    expect(ask({ cpus: 2 }, [['2g', 1]])).toBeUndefined()
  })

  it.each([
    ['workers', { workers: 1 }, /1 of 1 workers/],
    ['workers at all', { workers: 0 }, /of 0 workers/],
    ['memory', { memoryBytes: 3 * GIB - 1 }, /2048 MiB.*1024 MiB/],
    ['cores', { cpus: 1.999 }, /1 of 1\.999 cores.*asks for 1/],
  ])('refuses one beyond the %s that are allowed, and tells how things are', (_, limits, words) => {
    expect(thrown(() => ask(limits, [['2g', 1]]))).toMatchObject({
      code: 'quota_exceeded',
      message: expect.stringMatching(words),
      details: { retryAfterSeconds: 30, hint: expect.stringContaining('CO_MAX_WORKERS') },
    })
  })

  it('refuses one that is too large by itself', () => {
    expect(thrown(() => ask({ memoryBytes: GIB }, [], '2g'))).toMatchObject({ code: 'quota_exceeded' })
    expect(thrown(() => ask({ cpus: 1 }, [], '1g', 2))).toMatchObject({ code: 'quota_exceeded' })
  })
})
