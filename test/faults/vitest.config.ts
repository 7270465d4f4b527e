import { defineConfig } from 'vitest/config'

/** What dies, and what holds then: longer than `npm test` may take, so it has a script of its own. */
export default defineConfig({
  test: {
    name: 'faults',
    environment: 'node',
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
