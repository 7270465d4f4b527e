import { expect, it, vi } from 'vitest'
import { freezing } from '../../../../src/engine/docker/freezing.ts'
import { EngineError } from '../../../../src/errors.ts'
import { rejection } from '../../support/streams.ts'

const busy = () => new EngineError('failed', 'OCI runtime pause failed: unable to freeze: unknown')

it('tries again where runc could not freeze a container', async () => {
  const work = vi
    .fn(async () => 'frozen')
    .mockRejectedValueOnce(busy())
    .mockRejectedValueOnce(busy())
  expect(await freezing(work, 1)).toBe('frozen')
  expect(work).toHaveBeenCalledTimes(3)
})

it('gives up after some tries, and at once on anything else', async () => {
  const never = vi.fn(() => Promise.reject(busy()))
  expect(await rejection(freezing(never, 1))).toBeInstanceOf(EngineError)
  expect(never).toHaveBeenCalledTimes(5)
  const gone = vi.fn(() => Promise.reject(new EngineError('not_found', 'no such container')))
  await rejection(freezing(gone, 1))
  expect(gone).toHaveBeenCalledTimes(1)
})
