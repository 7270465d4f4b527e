import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Client, sh, toolRequest } from '../fixtures/client.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

let service: TestService
let client: Client
let root: string

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'co-root-'))
  service = await startService({ environment: { CO_ALLOWED_HOST_ROOTS: root } })
  client = new Client(service.url)
})
afterAll(async () => {
  await service.destroy()
  await rm(root, { recursive: true, force: true })
})

describe('input files', () => {
  it('are there before the tool starts, as text or base64, relative to /input or absolute', async () => {
    const run = await client.run({
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
      const answer = await client.post(
        '/containers/tool/execute',
        toolRequest({ command: ['true'], input_files: { [path]: 'x' } }),
      )
      expect([400, 403], path).toContain(answer.status)
    }
  })
})

describe('artifacts', () => {
  it('outlive the container: manifest and content of what was written to /output', async () => {
    const run = await client.run({
      command: sh(
        'mkdir /output/sub; printf one > /output/one.txt; printf two > /output/sub/two.txt; ln -s /etc/passwd /output/link',
      ),
    })
    await service.services.docker.settled()
    const manifest = await client.get(`/containers/tool/${run.execution_id}/artifacts`)
    expect(manifest.body).toEqual({ items: run.artifacts, next_cursor: null })
    expect(run.artifacts).toEqual([
      { path: '/output/one.txt', bytes: 3, sha256: createHash('sha256').update('one').digest('hex') },
      { path: '/output/sub/two.txt', bytes: 3, sha256: createHash('sha256').update('two').digest('hex') },
    ])
    for (const path of ['/output/one.txt', 'output/one.txt', 'one.txt', encodeURIComponent('/output/one.txt')]) {
      const file = await client.get(`/containers/tool/${run.execution_id}/artifacts/${path}`)
      expect(file.status, path).toBe(200)
      expect(file.text).toBe('one')
      expect(file.headers.get('content-length')).toBe('3')
    }
    expect((await client.get(`/containers/tool/${run.execution_id}/artifacts/link`)).status).toBe(404)
    expect((await client.get(`/containers/tool/${run.execution_id}/artifacts/..%2F..%2Fstore.sqlite`)).status).toBe(404)
  })

  it('takes further paths that the request names, files and folders', async () => {
    const run = await client.run({
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
    expect((await client.run({ command: ['true'] })).artifacts).toEqual([])
  })
})

describe('volumes', () => {
  it('are shared within a session, apart from other sessions, and removed with it', async () => {
    const [mine, other] = [newSession(), newSession()]
    const volumes = [{ source: 'cache', target: '/cache', read_only: false }]
    await client.run({ session_id: mine, volumes, command: sh('echo mine > /cache/x') })
    expect((await client.run({ session_id: mine, volumes, command: sh('cat /cache/x') })).stdout).toBe('mine\n')
    expect((await client.run({ session_id: other, volumes, command: sh('cat /cache/x') })).exit_code).toBe(1)
    const readOnly = await client.run({
      session_id: mine,
      volumes: [{ source: 'cache', target: '/cache' }],
      command: sh('echo y > /cache/y'),
    })
    expect(readOnly).toMatchObject({ exit_code: 1 })
    expect((await client.post('/containers/cleanup/session', { session_id: mine })).body.volumes_removed).toBe(1)
    expect((await client.run({ session_id: other, volumes, command: sh('ls /cache') })).stdout).toBe('')
    await client.post('/containers/cleanup/session', { session_id: other })
  })

  it('mounts host paths beneath an allowed root, and refuses all others', async () => {
    await mkdir(join(root, 'project'))
    await writeFile(join(root, 'project', 'file'), 'from the host\n')
    await symlink('/etc', join(root, 'escape'))
    const mounted = (source: string) =>
      toolRequest({ command: sh('cat /mnt/file'), volumes: [{ source, target: '/mnt' }] })
    expect((await client.post('/containers/tool/execute', mounted(join(root, 'project')))).body.stdout).toBe(
      'from the host\n',
    )
    for (const source of [
      '/',
      '/etc',
      '/var/run/docker.sock',
      `${root}/../`,
      `${root}-other`,
      `${root}/project/../../etc`,
    ]) {
      const answer = await client.post('/containers/tool/execute', mounted(source))
      expect(answer.status, source).toBe(403)
      expect(answer.body.code).toBe('policy_denied')
    }
    const escaped = await client.post('/containers/tool/execute', mounted(join(root, 'escape')))
    expect([escaped.status, escaped.body.code]).toEqual([403, 'policy_denied'])
    const absent = await client.post('/containers/tool/execute', mounted(join(root, 'absent')))
    expect([absent.status, absent.body.code]).toEqual([400, 'validation_failed'])
  })
})
