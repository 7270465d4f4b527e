import { defineConfig } from 'vitest/config'

/** Each row of SECURITY.md's table as a test, on the socket between the service and a real engine. */
export default defineConfig({
  test: {
    name: 'security',
    environment: 'node',
    // A failure tells the whole of what was not expected, also in CI's log.
    chaiConfig: { truncateThreshold: 0 },
    env: { SUITE: 'security' },
    // The fault suite's malformed replies are the engine's attack on the service.
    include: ['test/security/**/*.test.ts', 'test/faults/malformed.test.ts'],
    globalSetup: ['test/fixtures/require-engine.ts'],
    reporters: ['default', 'json'],
    outputFile: { json: '.cache/vitest-security.json' },
    testTimeout: 2 * 3600 * 1000,
    hookTimeout: 120_000,
    // One file's bombs would be another's noise.
    maxWorkers: 1,
    execArgv: ['--expose-gc'],
  },
})
