import { expect, it } from 'vitest'
import { strongestIsolation } from '../../../../src/engine/docker/docker-engine.ts'

it.each([
  ['20.10.24+dfsg1', 'inhibit_ipv4'],
  ['26.1.5', 'inhibit_ipv4'],
  ['27.5.1', 'inhibit_ipv4'],
  ['28.0.0', 'gateway_isolated'],
  ['29.1.0-rc.1', 'gateway_isolated'],
  ['dev', 'inhibit_ipv4'],
])('takes the strongest isolation that Docker %s has: %s', (version, isolation) => {
  expect(strongestIsolation(version)).toBe(isolation)
})
