/** What holds for the files of every tool run, whether a container was parked for it or not. */
import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { sh, toolRequest } from '../fixtures/client.ts'
import type { ToolSetting } from '../fixtures/tool-setting.ts'

export function describeFiles(setting: ToolSetting): void {
  describe('input files', () => {
    it('are there before the tool starts, as text or base64, relative to /input or absolute', async () => {
      const run = await setting.client.run({
        command: sh('cat /input/a/b.txt /input/raw.bin /data/deep/c.txt /tmp/d.txt'),
        input_files: {
          'a/b.txt': 'text ü\n',
          'raw.bin': { base64: Buffer.from('bytes\n').toString('base64') },
          '/data/deep/c.txt': 'absolute\n',
          '/tmp/d.txt': 'in tmp\n',
        },
      })
      expect(run.stdout).toBe('text ü\nbytes\nabsolute\nin tmp\n')
    })

    it('refuses paths that climb, reach the kernel or replace the root', async () => {
      for (const path of ['../x', 'a/../../x', '/proc/x', '/dev/x', '/x']) {
        const answer = await setting.plain.post(
          '/containers/tool/execute',
          toolRequest({ command: ['true'], input_files: { [path]: 'x' } }),
        )
        expect([400, 403], path).toContain(answer.status)
      }
    })
  })

  describe('artifacts', () => {
    it('outlive the container: manifest and content of what was written to /output', async () => {
      const run = await setting.client.run({
        command: sh(
          'mkdir /output/sub; printf one > /output/one.txt; printf two > /output/sub/two.txt; ln -s /etc/passwd /output/link',
        ),
      })
      await setting.service.services.docker.settled()
      const manifest = await setting.client.get(`/containers/tool/${run.execution_id}/artifacts`)
      expect(manifest.body).toEqual({ items: run.artifacts, next_cursor: null })
      expect(run.artifacts).toEqual([
        { path: '/output/one.txt', bytes: 3, sha256: createHash('sha256').update('one').digest('hex') },
        { path: '/output/sub/two.txt', bytes: 3, sha256: createHash('sha256').update('two').digest('hex') },
      ])
      for (const path of ['/output/one.txt', 'output/one.txt', 'one.txt', encodeURIComponent('/output/one.txt')]) {
        const file = await setting.client.get(`/containers/tool/${run.execution_id}/artifacts/${path}`)
        expect(file.status, path).toBe(200)
        expect(file.text).toBe('one')
        expect(file.headers.get('content-length')).toBe('3')
      }
      expect((await setting.client.get(`/containers/tool/${run.execution_id}/artifacts/link`)).status).toBe(404)
      expect(
        (await setting.client.get(`/containers/tool/${run.execution_id}/artifacts/..%2F..%2Fstore.sqlite`)).status,
      ).toBe(404)
    })

    it('takes further paths that the request names, files and folders', async () => {
      const run = await setting.client.run({
        command: sh(
          'mkdir /work/dir; echo a > /work/report.txt; echo b > /work/dir/b.txt; echo c > /work/other.txt; echo t > /tmp/t.txt',
        ),
        output_paths: ['/work/report.txt', '/work/dir', '/tmp/t.txt', '/work/absent'],
      })
      expect(run.status).toBe('completed')
      expect(run.artifacts.map((artifact: { path: string }) => artifact.path)).toEqual([
        '/tmp/t.txt',
        '/work/dir/b.txt',
        '/work/report.txt',
      ])
    })

    it('has none where nothing was written', async () => {
      expect((await setting.client.run({ command: ['true'] })).artifacts).toEqual([])
    })
  })
}
