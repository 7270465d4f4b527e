import { expect, it } from 'vitest'
import { restartPause } from '../../../src/managers/restart-pause.ts'

it('waits longer before each restart, and never longer than ten seconds', () => {
  expect([0, 1, 2, 5, 6, 100].map(restartPause)).toEqual([200, 400, 800, 6_400, 10_000, 10_000])
})
