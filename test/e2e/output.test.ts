import { describe, expect, it } from 'vitest'
import { sh } from '../fixtures/client.ts'
import { toolSetting } from '../fixtures/tool-setting.ts'
import { describeOutput } from './output-suite.ts'

const setting = toolSetting('cold')
describeOutput(setting)

describe('a flood', () => {
  it('runs a tool that writes 300 MB in bounded memory and disk, and tells what was dropped', {
    timeout: 120_000,
  }, async () => {
    const bytes = 300 * 1024 * 1024
    const before = process.memoryUsage().rss
    let peak = before
    const watch = setInterval(() => {
      peak = Math.max(peak, process.memoryUsage().rss)
    }, 50)
    const line = 'x'.repeat(1000)
    const run = await setting.client.run({ command: sh(`echo FIRST; yes ${line} | head -c ${bytes}; echo LAST`) })
    clearInterval(watch)
    expect(run).toMatchObject({ status: 'completed', stdout_bytes: bytes + 11, stdout_truncated: true })
    expect(run.stdout.endsWith('LAST\n')).toBe(true)
    expect(peak - before).toBeLessThan(200 * 1024 * 1024)
    const text = (await setting.client.get(`/containers/tool/${run.execution_id}/logs`)).text
    expect(text.startsWith('FIRST\n')).toBe(true)
    expect(text.endsWith('LAST\n')).toBe(true)
    expect(text).toMatch(/\[\.\.\. \d+ bytes omitted \.\.\.\]/)
    expect(text.length).toBeLessThan(72 * 1024 * 1024)
  })
})
