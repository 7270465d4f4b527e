import { appendFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { AuditLog } from '../../../src/audit/audit-log.ts'
import { auditCommand } from '../../../src/cli/audit.ts'
import { entry, silent } from '../audit/support.ts'
import { temporaryFolder } from '../support/folders.ts'

let data: string
let head: string

beforeEach(async () => {
  data = await temporaryFolder()
  const audit = await AuditLog.open(join(data, 'audit'), { log: silent, maxFileBytes: 900 })
  for (let count = 0; count < 7; count++) await audit.append(entry(`req-${count}`))
  await audit.close()
  head = audit.head.hash
})

async function run(words: string) {
  const out: string[] = []
  const err: string[] = []
  const output = { out: (line: string) => void out.push(line), err: (line: string) => void err.push(line) }
  return { code: await auditCommand([...words.split(' '), '--data', data], output), out, err }
}

const path = () => join(data, 'audit', 'audit-000000000001.jsonl')

describe('npm run audit', () => {
  it('verifies a log that is whole: 0, with the number of entries and the head', async () => {
    for (const words of ['verify', `verify --head ${head}`]) {
      const { code, out, err } = await run(words)
      expect([code, err]).toEqual([0, []])
      expect(out).toEqual([expect.stringMatching(/^7 entries in [234] files$/), `head ${head}`])
    }
  })

  it('ends with 1 where a line is not as it was written, and names it', async () => {
    const bytes = await readFile(path())
    bytes[30] = (bytes[30] ?? 0) ^ 1
    await writeFile(path(), bytes)
    const { code, err } = await run('verify')
    expect([code, err.length]).toEqual([1, 1])
    expect(err[0]).toContain('audit-000000000001.jsonl, line 1: ')
  })

  it('ends with 1 where a head is not there any more', async () => {
    const { code, err } = await run(`verify --head ${'ab'.repeat(32)}`)
    expect([code, err.length]).toEqual([1, 1])
    expect(err[0]).toContain('cut off')
  })

  it('prints the last entries, over files, and nothing that steers a terminal', async () => {
    const { code, out } = await run('tail --lines 5')
    expect(code).toBe(0)
    expect(out.map((line) => JSON.parse(line).request_id)).toEqual(['req-2', 'req-3', 'req-4', 'req-5', 'req-6'])
    expect((await run('tail')).out).toHaveLength(7)
    await appendFile(join(data, 'audit', 'audit-999999999999.jsonl'), '\u001b[2J\u009b\n')
    expect((await run('tail --lines 1')).out[0]).toMatch(/^[\x20-\x7e]+$/)
  })

  it.each([
    ['prune', 'prune'],
    ['verify all', 'all'],
    ['verify --head abc', '--head'],
    ['verify --after abc', '--after'],
    ['verify --heads abc', '--heads'],
    ['tail --lines none', '--lines'],
    ['tail --lines 0', '--lines'],
  ])('is misused by %j: 2, in one line that names it', async (words, word) => {
    const { code, out, err } = await run(words)
    expect([code, out, err.length]).toEqual([2, [], 1])
    expect(err[0]).toContain(word)
  })

  it('fails where there is no log: a verified nothing would deceive', async () => {
    data = await temporaryFolder()
    for (const words of ['verify', 'tail']) {
      const { code, err } = await run(words)
      expect([code, err.length]).toEqual([1, 1])
    }
  })

  it('tells how it is used', async () => {
    const { code, out } = await run('--help')
    expect(code).toBe(0)
    expect(out.join('\n')).toContain('npm run audit -- verify')
  })
})
