import { defineConfig } from 'vitest/config'

/** What dies, and what holds then: longer than `npm test` may take, so it has a script of its own. */
export default defineConfig({
  test: {
    name: 'faults',
    environment: 'node',
    // A failure tells the whole of what was not expected, also in CI's log.
    chaiConfig: { truncateThreshold: 0 },
    env: { SUITE: 'faults' },
    include: ['test/faults/**/*.test.ts'],
    globalSetup: ['test/fixtures/require-engine.ts'],
    reporters: ['default', 'json'],
    outputFile: { json: '.cache/vitest-faults.json' },
    testTimeout: 4 * 3600 * 1000,
    hookTimeout: 120_000,
    maxWorkers: 1,
  },
})
