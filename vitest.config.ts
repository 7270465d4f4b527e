import { defineConfig } from 'vitest/config'

/** Seconds in milliseconds. */
const seconds = (count: number) => count * 1_000

/** End-to-end tests that take longest, which `npm test` leaves to `npm run test:long`. */
const LONG = [
  'corrupt-store',
  'half-close',
  'image',
  'restart',
  'retention',
  'start',
  'tools-warm-load',
  'worker-care',
  'worker-image',
  'worker-workspaces',
].map((name) => `test/e2e/${name}.test.ts`)

/**
 * Four kinds of test, from pure functions to the service over HTTP. All but the first need a
 * container engine and the images of images/test, which `scripts/setup.sh test` provides.
 */
export default defineConfig({
  test: {
    environment: 'node',
    // A failure tells the whole of what was not expected, also in CI's log.
    chaiConfig: { truncateThreshold: 0 },
    // As long as a machine that is busy with other things may take; what is there is found at once.
    expect: { poll: { timeout: seconds(10) } },
    // The counts that .ci/run sums up.
    reporters: ['default', 'json'],
    outputFile: { json: '.cache/vitest.json' },
    coverage: { provider: 'v8', include: ['src/**'], reportsDirectory: 'coverage' },
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          testTimeout: seconds(30),
          // They wait for nobody: as many as there are cores, which Vitest leaves one of alone.
          maxWorkers: '100%',
          // The sources are loaded once for each of these, and not for each file: less than half the time.
          isolate: false,
          sequence: { groupOrder: 1 },
        },
      },
      onEngine('contract', seconds(30)),
      onEngine('integration', seconds(60)),
      onEngine('e2e', seconds(60), { exclude: LONG }),
      onEngine('long', seconds(60), { include: LONG }),
    ],
  },
})

/**
 * A project whose tests run containers. They mostly wait for the engine, so three files run side by side,
 * each with services, ports and networks of its own; the engine does about four starts at once on two cores.
 */
function onEngine(
  name: string,
  timeout: number,
  { include = [`test/${name}/**/*.test.ts`], exclude = [] }: { include?: string[]; exclude?: string[] } = {},
) {
  return {
    extends: true as const,
    test: {
      name,
      include,
      exclude,
      globalSetup: ['test/fixtures/require-engine.ts'],
      testTimeout: timeout,
      hookTimeout: timeout,
      maxWorkers: 3,
      sequence: { groupOrder: 2 },
    },
  }
}
