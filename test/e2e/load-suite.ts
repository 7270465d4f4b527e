/** What runs do to the service by their number or their output: each setting has it, cold or warm. */
import { describe, expect, it } from 'vitest'
import { sh } from '../fixtures/client.ts'
import { newSession } from '../fixtures/sessions.ts'
import type { ToolSetting } from '../fixtures/tool-setting.ts'

export function describeManyAtOnce(setting: ToolSetting): void {
  describe('many runs at once', () => {
    it('runs 16 tools at once, each with its own output', async () => {
      const session_id = newSession()
      const runs = await Promise.all(
        Array.from({ length: 16 }, (_, index) =>
          setting.client.run({
            session_id,
            tool_name: `t${index}`,
            command: sh(`echo "out ${index}"; echo "err ${index}" >&2`),
          }),
        ),
      )
      expect(runs.map((run) => run.stdout)).toEqual(runs.map((_, index) => `out ${index}\n`))
      expect(runs.map((run) => run.stderr)).toEqual(runs.map((_, index) => `err ${index}\n`))
      expect(new Set(runs.map((run) => run.container_id)).size).toBe(16)
    })
  })
}

export function describeFlood(setting: ToolSetting): void {
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
}
