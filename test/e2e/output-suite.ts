/** What holds for the output of every tool run, whether a container was parked for it or not. */
import { describe, expect, it } from 'vitest'
import { type SentEvent, sh } from '../fixtures/client.ts'
import type { ToolSetting } from '../fixtures/tool-setting.ts'

const textOf = (events: SentEvent[], stream: string) =>
  events
    .filter(({ event }) => event === stream)
    .map(({ data }) => data.text)
    .join('')

export function describeOutput(setting: ToolSetting): void {
  describe('GET /containers/tool/{id}/logs', () => {
    it('answers the output as text after the container is gone, by stream and by last lines', async () => {
      const run = await setting.client.run({
        command: sh('for i in 1 2 3 4 5; do echo "line $i"; sleep 0.02; done; echo problem >&2'),
      })
      await setting.service.services.docker.settled()
      const logs = `/containers/tool/${run.execution_id}/logs`
      const all = await setting.client.get(logs)
      expect(all.headers.get('content-type')).toContain('text/plain')
      expect(all.text.split('\n').toSorted()).toEqual(['', 'line 1', 'line 2', 'line 3', 'line 4', 'line 5', 'problem'])
      expect((await setting.client.get(`${logs}?stream=stderr`)).text).toBe('problem\n')
      expect((await setting.client.get(`${logs}?stream=stdout&tail=2`)).text).toBe('line 4\nline 5\n')
      expect((await setting.client.get(`${logs}?stream=stdout&tail=0`)).text).toBe('')
      expect((await setting.client.get(`${logs}?tail=-1`)).status).toBe(400)
    })

    it('streams output while it comes, with growing ids, changes of state and a final end', async () => {
      const run = await setting.client.run({
        command: sh('for i in 1 2 3; do echo "tick $i"; sleep 0.3; done; exit 2'),
        wait: false,
      })
      const events = await setting.client.events(`/containers/tool/${run.execution_id}/logs?follow=true`)
      expect(textOf(events, 'stdout')).toBe('tick 1\ntick 2\ntick 3\n')
      expect(events.filter(({ event }) => event === 'stdout').length).toBeGreaterThan(1)
      const ids = events.map(({ id }) => Number(id))
      expect(ids).toEqual([...new Set(ids)].toSorted((a, b) => a - b))
      expect(events.filter(({ event }) => event === 'state').map(({ data }) => data.status)).toEqual([
        'queued',
        'preparing',
        'running',
        'failed',
      ])
      expect(events.at(-1)).toMatchObject({
        event: 'end',
        data: { execution_id: run.execution_id, status: 'failed', exit_code: 2 },
      })
      expect(events.filter(({ event }) => event === 'end')).toHaveLength(1)
      expect(events.find(({ event }) => event === 'stdout')?.data.at).toMatch(/^\d{4}-.*Z$/)
    })

    it('misses and repeats nothing after a reconnect with Last-Event-ID, and ends a reader that has it all', async () => {
      const run = await setting.client.run({
        command: sh('i=0; while [ $i -lt 40 ]; do echo "n $i"; i=$((i+1)); sleep 0.02; done'),
        wait: false,
      })
      const path = `/containers/tool/${run.execution_id}/logs?follow=true`
      let seen: SentEvent[] = []
      for (let connection = 0; connection < 50 && seen.at(-1)?.event !== 'end'; connection++) {
        const last = seen.at(-1)?.id
        let count = 0
        const more = await setting.client.events(path, {
          ...(last === undefined ? {} : { headers: { 'last-event-id': last } }),
          enough: ({ event }) => event !== 'end' && ++count >= 7,
        })
        seen = [...seen, ...more]
      }
      expect(textOf(seen, 'stdout')).toBe(Array.from({ length: 40 }, (_, index) => `n ${index}\n`).join(''))
      expect(seen.filter(({ event }) => event === 'end')).toHaveLength(1)
      const done = await setting.client.get(path, { 'last-event-id': seen.at(-1)?.id ?? '' })
      expect(done.status).toBe(204)
    })

    it('streams to whoever accepts events, also after the end', async () => {
      const run = await setting.client.run({ command: sh('echo late') })
      const events = await setting.client.events(`/containers/tool/${run.execution_id}/logs`, {
        headers: { accept: 'text/event-stream' },
      })
      expect(textOf(events, 'stdout')).toBe('late\n')
      expect(events.at(-1)?.event).toBe('end')
    })

    it('keeps characters whole however the tool cuts them', async () => {
      const script = 'printf "\\360\\237"; sleep 0.2; printf "\\216\\211 \\303"; sleep 0.2; printf "\\274\\n"'
      const run = await setting.client.run({ command: sh(script), wait: false })
      const events = await setting.client.events(`/containers/tool/${run.execution_id}/logs?follow=true`)
      expect(textOf(events, 'stdout')).toBe('🎉 ü\n')
      expect(JSON.stringify(events)).not.toContain('\uFFFD')
    })
  })

  describe('bounds', () => {
    it('keeps head and tail of a large output in the run, and counts all of it', async () => {
      const run = await setting.client.run({
        command: sh('echo FIRST; head -c 5000000 /dev/zero | tr "\\0" x; echo; echo LAST'),
      })
      expect(run).toMatchObject({ status: 'completed', stdout_bytes: 5_000_012, stdout_truncated: true })
      expect(run.stdout.startsWith('FIRST\nxxx')).toBe(true)
      expect(run.stdout.endsWith('x\nLAST\n')).toBe(true)
      expect(run.stdout).toContain('bytes omitted')
      expect(run.stdout.length).toBeLessThan(1024 * 1024 + 100)
      const logs = await setting.client.get(`/containers/tool/${run.execution_id}/logs?stream=stdout`)
      expect(logs.text.length).toBe(5_000_012)
    })
  })
}
