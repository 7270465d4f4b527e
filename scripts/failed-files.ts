/** `node scripts/failed-files.ts REPORT`: the test files in which something failed, a line each. */
import { failedFiles, readReport } from './vitest-report.ts'

for (const { name } of failedFiles(readReport(process.argv[2] ?? ''))) console.log(name)
