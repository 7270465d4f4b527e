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
