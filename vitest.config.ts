import { defineConfig } from 'vitest/config'

/** Seconds in milliseconds. */
const seconds = (count: number) => count * 1_000

/**
 * Four kinds of test, from pure functions to the service over HTTP. All but the first need a
 * container engine and the images of images/test, which `scripts/setup.sh test` provides.
 */
export default defineConfig({
  test: {
    environment: 'node',
    // The counts that .ci/run sums up.
    reporters: ['default', ['json', { outputFile: '.cache/vitest.json' }]],
    coverage: { provider: 'v8', include: ['src/**'], reportsDirectory: 'coverage' },
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          testTimeout: seconds(10),
          sequence: { groupOrder: 1 },
        },
      },
      onEngine('contract', { timeout: seconds(30), group: 2 }),
      onEngine('integration', { timeout: seconds(60), group: 3 }),
      onEngine('e2e', { timeout: seconds(60), group: 4 }),
    ],
  },
})

/**
 * A project whose tests run containers. Two files at a time: the engine does about four starts at
 * once on two cores, and more only makes each slower. The projects follow each other.
 */
function onEngine(name: string, { timeout, group }: { timeout: number; group: number }) {
  return {
    extends: true as const,
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      globalSetup: ['test/fixtures/require-engine.ts'],
      testTimeout: timeout,
      hookTimeout: timeout,
      maxWorkers: 2,
      sequence: { groupOrder: group },
    },
  }
}
