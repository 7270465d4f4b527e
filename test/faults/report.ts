/** What a fault suite counted: a line to read, and one for docs/FAILURES.md in `.cache/faults.jsonl`. */
import { appendFile, mkdir } from 'node:fs/promises'

export type Counts = Record<string, number | string>

export async function report(name: string, counts: Counts): Promise<void> {
  const told = Object.entries(counts).map(([what, count]) => `${what} ${count}`)
  process.stdout.write(`faults: ${name}: ${told.join(', ')}\n`)
  await mkdir('.cache', { recursive: true })
  await appendFile('.cache/faults.jsonl', `${JSON.stringify({ name, counts, at: new Date().toISOString() })}\n`)
}
