import { defineConfig } from 'vitest/config'

/** The pure functions of src/policy by their own tests: for `npm run coverage:policy` and `npm run mutation`. */
export default defineConfig({
  test: {
    environment: 'node',
    root: new URL('../../..', import.meta.url).pathname,
    testTimeout: 60_000,
    isolate: false,
    include: ['test/unit/policy/**/*.test.ts'],
    coverage: {
      provider: 'v8',
      include: ['src/policy/**'],
      reportsDirectory: 'coverage/policy',
      reporter: ['text'],
      thresholds: { branches: 100, functions: 100, lines: 100, statements: 100 },
    },
  },
})
