/**
 * The end of .ci/run: what failed, by name and with the first lines of why, and last `N passed, N failed`,
 * from the report that vitest left. The arguments name the checks that failed beside the tests; each counts
 * as one failure, whatever tests of a suite of its own were behind it. A skipped test has not passed, and a
 * run in which nothing passed has failed.
 */
import { readFileSync } from 'node:fs'

interface Report {
  numPassedTests: number
  numFailedTests: number
  numPendingTests: number
  numTodoTests: number
  success: boolean
  testResults: readonly {
    name: string
    status: string
    message?: string
    assertionResults: readonly { fullName: string; status: string; failureMessages?: readonly string[] | null }[]
  }[]
}

/** Of `npm test`, whose tests are counted, and of the suites that are checks beside it. */
const COUNTED = '.cache/vitest.json'
const REPORTS = [COUNTED, '.cache/vitest-faults.json', '.cache/vitest-security.json']
const LINES_OF_WHY = 12

const failedChecks = process.argv.slice(2)
const report = readReport(COUNTED)

const passed = report?.numPassedTests ?? 0
const skipped = (report?.numPendingTests ?? 0) + (report?.numTodoTests ?? 0)
const failed = (report === undefined ? 0 : testFailures(report)) + failedChecks.length
const total = Math.max(failed, passed === 0 ? 1 : 0)

for (const name of failedChecks) console.log(`FAILED check: ${name}`)
for (const path of REPORTS) for (const line of failuresOf(readReport(path))) console.log(line)
console.log(`${passed} passed, ${total} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`)
process.exitCode = total > 0 ? 1 : 0

/** Failed tests, and files that failed before any test of theirs could run. */
function testFailures({ numFailedTests, testResults, success }: Report): number {
  const brokenFiles = testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.length === 0,
  ).length
  // An error outside of every test, such as one that nobody awaited, fails the run and no test.
  return Math.max(numFailedTests + brokenFiles, success ? 0 : 1)
}

/** Each failed test by its file and name, with the beginning of its reason. */
function failuresOf(suite: Report | undefined): string[] {
  return (suite?.testResults ?? []).flatMap(({ name, status, message, assertionResults }) => {
    const tests = assertionResults.filter((test) => test.status === 'failed')
    if (tests.length === 0) return status === 'failed' ? told(`FAILED file: ${name}`, message ?? '') : []
    return tests.flatMap((test) =>
      told(`FAILED test: ${name}: ${test.fullName}`, test.failureMessages?.join('\n') ?? ''),
    )
  })
}

function told(heading: string, why: string): string[] {
  const lines = why.split('\n').filter((line) => line.trim() !== '')
  return [heading, ...lines.slice(0, LINES_OF_WHY).map((line) => `  ${line}`)]
}

function readReport(path: string): Report | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Report
  } catch {
    return undefined
  }
}
