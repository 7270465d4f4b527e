/** What vitest's JSON reporter leaves of a run, as far as .ci/run asks. */
import { readFileSync } from 'node:fs'

export interface TestReport {
  numPassedTests: number
  numFailedTests: number
  numPendingTests: number
  numTodoTests: number
  success: boolean
  testResults: readonly TestFile[]
}

export interface TestFile {
  name: string
  status: string
  message?: string
  assertionResults: readonly { fullName: string; status: string; failureMessages?: readonly string[] | null }[]
}

/** Undefined where there is none: the run broke off before its end, or never began. */
export function readReport(path: string): TestReport | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as TestReport
  } catch {
    return undefined
  }
}

/** Where a run of the failed files of another leaves its own report. */
export function againPath(path: string): string {
  return path.replace(/\.json$/, '-again.json')
}

export function failedFiles(report: TestReport | undefined): readonly TestFile[] {
  return (report?.testResults ?? []).filter(({ status }) => status === 'failed')
}
