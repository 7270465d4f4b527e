import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { AuditEntry } from '../../../src/audit/audit-line.ts'

export const ENTRY: AuditEntry = {
  key_id: 'abcdefghijk1',
  token_id: null,
  owner: 'alice',
  role: 'agent',
  session: 'walk',
  route: 'executeTool',
  method: 'POST',
  resource: '/containers/tool/execute',
  decision: 'allow',
  rule: null,
  status: null,
  request_id: 'req-1',
}

export const entry = (request_id: string): AuditEntry => ({ ...ENTRY, request_id })

/** The lines of all files, in order, as JSON says. */
export async function linesIn(folder: string) {
  const texts = await Promise.all((await namesIn(folder)).map((name) => readFile(join(folder, name), 'utf8')))
  return texts
    .join('')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
}

export async function namesIn(folder: string): Promise<string[]> {
  return (await readdir(folder)).sort()
}

export const silent = { info() {}, warn() {}, error() {} }
