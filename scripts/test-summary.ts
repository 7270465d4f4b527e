/**
 * The end of .ci/run: what failed, by name and with the first lines of why, and last `N passed, N failed`,
 * from the reports that vitest left. The arguments name the checks that failed beside the counted tests; each
 * counts as one failure, whatever tests of a suite of its own were behind it. A test that failed, and
 * passed when its file was run again alone, is named as unsteady and counts as passed. A skipped test has
 * not passed, and a run in which nothing passed has failed.
 */
import { againPath, failedFiles, readReport, type TestFile, type TestReport } from './vitest-report.ts'

/** Of `npm test` and `npm run test:long`, whose tests are counted, and of the suites that are checks beside them. */
const COUNTED = ['.cache/vitest.json', '.cache/vitest-long.json']
const REPORTS = [...COUNTED, '.cache/vitest-faults.json', '.cache/vitest-security.json']
const LINES_OF_WHY = 12

const failedChecks = process.argv.slice(2)
for (const name of failedChecks) console.log(`FAILED check: ${name}`)
for (const path of REPORTS) tellFailures(path)

let passed = 0
let skipped = 0
let failed = failedChecks.length
for (const path of COUNTED) {
  const report = readReport(path)
  if (report === undefined) continue
  const steadied = passedAgain(path, report)
  passed += report.numPassedTests + steadied
  skipped += report.numPendingTests + report.numTodoTests
  failed += failures(report) - steadied
}
const total = Math.max(failed, passed === 0 ? 1 : 0)

console.log(`${passed} passed, ${total} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`)
process.exitCode = total > 0 ? 1 : 0

/** Failed tests, and files that failed before any test of theirs could run. */
function failures({ numFailedTests, testResults, success }: TestReport): number {
  const brokenFiles = testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.length === 0,
  ).length
  // An error outside of every test, such as one that nobody awaited, fails the run and no test.
  return Math.max(numFailedTests + brokenFiles, success ? 0 : 1)
}

/** How many failures of a run did not happen again. */
function passedAgain(path: string, first: TestReport): number {
  const again = readReport(againPath(path))
  if (again === undefined || !again.success) return 0
  const steady = new Set(again.testResults.map(({ name }) => name))
  return failedFiles(first).every(({ name }) => steady.has(name)) ? failures(first) : 0
}

/** Each failed test by its file and name, with the beginning of its reason. */
function tellFailures(path: string): void {
  const first = readReport(path)
  if (first === undefined) return
  const kind = passedAgain(path, first) > 0 ? 'UNSTEADY' : 'FAILED'
  for (const file of failedFiles(first)) for (const line of told(file, kind)) console.log(line)
}

function told({ name, message, assertionResults }: TestFile, kind: string): string[] {
  const tests = assertionResults.filter((test) => test.status === 'failed')
  if (tests.length === 0) return [`${kind} file: ${name}`, ...beginningOf(message ?? '')]
  return tests.flatMap((test) => [
    `${kind} test: ${name}: ${test.fullName}`,
    ...beginningOf(test.failureMessages?.join('\n') ?? ''),
  ])
}

function beginningOf(why: string): string[] {
  const lines = why.split('\n').filter((line) => line.trim() !== '')
  return lines.slice(0, LINES_OF_WHY).map((line) => `  ${line}`)
}
