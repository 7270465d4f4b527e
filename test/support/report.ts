/** What a long suite counted: a line to read, and one for its page of docs/ in `.cache/<suite>.jsonl`. */
import { appendFile, mkdir } from 'node:fs/promises'

export type Counts = Record<string, number | string>

/** The suite is named by its vitest.config.ts. */
export async function report(name: string, counts: Counts): Promise<void> {
  const suite = process.env['SUITE'] ?? 'tests'
  const told = Object.entries(counts).map(([what, count]) => `${what} ${count}`)
  process.stdout.write(`${suite}: ${name}: ${told.join(', ')}\n`)
  await mkdir('.cache', { recursive: true })
  await appendFile(`.cache/${suite}.jsonl`, `${JSON.stringify({ name, counts, at: new Date().toISOString() })}\n`)
}
