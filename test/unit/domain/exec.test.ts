import { describe, expect, it } from 'vitest'
import { ExecRequest, ListExecs, ReadExec } from '../../../src/domain/exec.ts'

/** The dotted paths of what is wrong, with the names of unknown fields. */
function faults(fields: object): string[] {
  const parsed = ExecRequest.safeParse({ command: 'true', ...fields })
  if (parsed.success) return []
  return parsed.error.issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys' ? issue.keys : [issue.path.join('.')],
  )
}

describe('ExecRequest', () => {
  it('needs a command only, and has these defaults', () => {
    expect(ExecRequest.parse({ command: 'ls' })).toEqual({
      command: 'ls',
      working_dir: '/workspace',
      environment: {},
      timeout_seconds: 300,
      wait: true,
      stream: false,
      cancel_on_disconnect: false,
    })
    expect(ExecRequest.safeParse({}).error?.issues[0]?.path).toEqual(['command'])
  })

  it('keeps what it is given, a command by its form', () => {
    const body = {
      command: ['sh', '-c', 'echo "$1"', ''],
      working_dir: '/tmp/x',
      user: '0:0',
      environment: { A: 'line\nbreak' },
      stdin: 'ä\0',
      timeout_seconds: 0.1,
      wait: false,
      stream: true,
      cancel_on_disconnect: true,
    }
    expect(ExecRequest.parse(body)).toEqual(body)
  })

  it.each([
    ['command', ['', [], 'a\0', ['a', 7], null]],
    ['working_dir', ['workspace', '', '/a/../b', '/a/./b', '/a\0', null]],
    ['user', ['', 'a b', 'a:b:c', 1000]],
    ['environment', [{ 'A-B': '1' }, { '1A': '' }, { A: 'x\0' }, { A: 1 }, ['A=1']]],
    ['stdin', [7, null, 'x'.repeat(768 * 1024 + 1)]],
    ['timeout_seconds', [0, 0.05, -1, 86_401, '300', Number.NaN]],
    ['wait', ['false', 0, null]],
    ['stream', ['true', 1]],
    ['cancel_on_disconnect', ['true', 1]],
    ['tty', [true]],
    ['privileged', [true]],
  ])('refuses for %s: %j', (field, values) => {
    for (const value of values) expect(faults({ [field]: value })[0]).toMatch(new RegExp(`^${field}`))
  })

  it('takes as much stdin as there may be', () => {
    expect(faults({ stdin: 'x'.repeat(768 * 1024) })).toEqual([])
  })
})

describe('the queries', () => {
  it('read words of a query', () => {
    expect(ReadExec.parse({ follow: 'true' })).toEqual({ follow: true })
    expect(ReadExec.parse({ follow: 'false' })).toEqual({ follow: false })
    expect(ReadExec.parse({})).toEqual({})
    expect(ListExecs.parse({ status: 'timeout', limit: '5' })).toEqual({ status: 'timeout', limit: 5 })
  })

  it.each([{ follow: '1' }, { follow: '' }, { tail: '5' }])('refuse %j', (query) => {
    expect(ReadExec.safeParse(query).success).toBe(false)
  })

  it.each([{ status: 'stopped' }, { limit: '1001' }, { worker_id: 'w1' }])('refuse a list of %j', (query) => {
    expect(ListExecs.safeParse(query).success).toBe(false)
  })
})
