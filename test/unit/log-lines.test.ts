import { spawnSync } from 'node:child_process'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { pino } from 'pino'
import { describe, expect, it, vi } from 'vitest'
import { LogLines, lineTime } from '../../src/log-lines.ts'

const MODULE = new URL('../../src/log-lines.ts', import.meta.url).href

function taken() {
  const writes: string[] = []
  const out = { write: (text: string) => writes.push(text) > 0 }
  return { writes, lines: new LogLines(out as never) }
}

describe('LogLines', () => {
  it('writes the lines of one turn together, in their order', async () => {
    const { writes, lines } = taken()
    lines.write('one\n')
    lines.write('two\n')
    expect(writes).toEqual([])
    await nextTurn()
    expect(writes).toEqual(['one\ntwo\n'])
    lines.write('three\n')
    await nextTurn()
    expect(writes).toEqual(['one\ntwo\n', 'three\n'])
  })

  it('writes at once what is fatal, behind what waits', () => {
    const { writes, lines } = taken()
    const log = pino({ base: null, timestamp: false }, lines)
    log.info('first')
    expect(writes).toEqual([])
    log.fatal('last')
    expect(writes).toEqual(['{"level":30,"msg":"first"}\n{"level":60,"msg":"last"}\n'])
  })

  it('loses nothing at the end of the process, however it ends by itself', () => {
    const script = (end: string) => `import { LogLines } from ${JSON.stringify(MODULE)}
      const lines = new LogLines(process.stdout)
      lines.write('last words\\n')
      ${end}`
    for (const end of ['process.exit(3)', 'throw new Error("broken")', '']) {
      const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script(end)], { encoding: 'utf8' })
      expect(stdout).toBe('last words\n')
    }
  })
})

describe('the time of a line', () => {
  it('is that of the moment, as pino writes it', () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.parse('2026-11-21T04:05:06.789Z') })
    expect([lineTime(), lineTime()]).toEqual(Array(2).fill(',"time":"2026-11-21T04:05:06.789Z"'))
    vi.setSystemTime(Date.parse('2026-11-21T04:05:06.790Z'))
    expect(lineTime()).toBe(',"time":"2026-11-21T04:05:06.790Z"')
    vi.useRealTimers()
  })
})
