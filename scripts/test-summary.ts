/**
 * The last line of .ci/run: `N passed, N failed`, from the report that vitest left. The arguments name
 * the checks that failed beside the tests; each counts as one failure. A skipped test has not passed,
 * and a run in which nothing passed has failed.
 */
import { readFileSync } from 'node:fs'

interface Report {
  numPassedTests: number
  numFailedTests: number
  numPendingTests: number
  numTodoTests: number
  success: boolean
  testResults: readonly { status: string; assertionResults: readonly unknown[] }[]
}

const failedChecks = process.argv.slice(2)
const report = readReport()

const passed = report?.numPassedTests ?? 0
const skipped = (report?.numPendingTests ?? 0) + (report?.numTodoTests ?? 0)
const failed = (report === undefined ? 0 : testFailures(report)) + failedChecks.length
const total = Math.max(failed, passed === 0 ? 1 : 0)

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

function readReport(): Report | undefined {
  try {
    return JSON.parse(readFileSync('.cache/vitest.json', 'utf8')) as Report
  } catch {
    return undefined
  }
}
