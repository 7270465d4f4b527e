import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Client, sh } from '../fixtures/client.ts'
import { DEBIAN, HTTPD, POSTGRES, TOOLBOX, UNREACHABLE } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

let service: TestService
let client: Client

beforeAll(async () => {
  service = await startService()
  client = new Client(service.url)
})
afterAll(() => service.destroy())

const start = (request: Record<string, unknown>) =>
  client.post('/containers/relic/start', { relic_name: 'web', image: HTTPD, ...request })

describe('POST /containers/relic/start', () => {
  it('answers 201 when it is healthy, reachable by its container name and by its alias', async () => {
    const session_id = newSession()
    const answer = await start({ session_id })
    expect(answer.status).toBe(201)
    const relic = answer.body
    expect(answer.headers.get('location')).toBe(`/containers/relic/${relic.relic_id}`)
    expect(relic).toMatchObject({
      status: 'healthy',
      session_id,
      failure: null,
      restarts: 0,
      network: { name: `session_${session_id}` },
    })
    expect(relic.container_name).toMatch(/^relic_web_.*_[0-9a-f]{8}$/)
    expect(relic.internal_url).toBe(`http://${relic.container_name}:8000`)
    for (const url of [relic.internal_url, 'http://web:8000']) {
      const run = await client.run({ session_id, network_mode: 'session', command: ['wget', '-qO-', `${url}/health`] })
      expect(run).toMatchObject({ status: 'completed', stdout: expect.stringContaining('ok') })
    }
    expect((await client.get(`/containers/relic/${relic.relic_id}`)).body).toEqual(relic)
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it('makes one network for relics that start at once', async () => {
    const session_id = newSession()
    const answers = await Promise.all(['a', 'b', 'c'].map((relic_name) => start({ session_id, relic_name })))
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201])
    expect(new Set(answers.map(({ body }) => body.network.id)).size).toBe(1)
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it('is healthy once it runs where no endpoint is asked', async () => {
    const session_id = newSession()
    const answer = await start({ session_id, image: TOOLBOX, command: ['sleep', '600'], health_check_endpoint: null })
    expect(answer.body).toMatchObject({ status: 'healthy' })
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it('answers 504 with the log tail where it never gets healthy, and leaves no container', async () => {
    const session_id = newSession()
    const answer = await start({
      session_id,
      image: TOOLBOX,
      command: sh('echo waiting; sleep 600'),
      health_check_timeout_seconds: 1,
    })
    expect(answer.status).toBe(504)
    expect(answer.body).toMatchObject({ code: 'health_check_timeout', logs_tail: 'waiting\n' })
    expect((await service.services.docker.list({ session: session_id })).length).toBe(0)
    const record = await client.get(answer.body.instance)
    expect(record.body).toMatchObject({
      status: 'failed',
      failure: { code: 'health_check_timeout' },
      container_id: null,
    })
    expect((await client.get(`${answer.body.instance}/logs`)).text).toBe('waiting\n')
    await client.post('/containers/cleanup/session', { session_id })
  })

  it('gives up at once when its container dies, with cause and log tail', async () => {
    const session_id = newSession()
    const command = sh('echo starting; echo "no database" >&2; exit 4')
    const answer = await start({ session_id, image: TOOLBOX, command, health_check_timeout_seconds: 600 })
    expect(answer.status).toBe(504)
    expect(answer.body.detail).toContain('exit code 4')
    expect(answer.body.logs_tail).toContain('no database')
    expect((await client.get(answer.body.instance)).body.failure.code).toBe('nonzero_exit')
    expect((await service.services.docker.list({ session: session_id })).length).toBe(0)
    await client.post('/containers/cleanup/session', { session_id })
  })

  it('blames the caller for a missing command, and the registry for an image that cannot be pulled', async () => {
    const session_id = newSession()
    const missing = await start({ session_id, image: TOOLBOX, command: ['/no/such/program'] })
    expect([missing.status, missing.body.code]).toEqual([422, 'start_failed'])
    const unreachable = await start({ session_id, image: UNREACHABLE })
    expect([unreachable.status, unreachable.body.code]).toEqual([502, 'pull_failed'])
    await client.post('/containers/cleanup/session', { session_id })
  })

  it('follows no redirect of a health endpoint', async () => {
    const session_id = newSession()
    const command = sh(
      'mkdir -p /tmp/w/cgi-bin && printf "#!/bin/sh\\nprintf \'Status: 302 Found\\\\r\\\\nLocation: /health\\\\r\\\\n\\\\r\\\\n\'" > /tmp/w/cgi-bin/go && chmod +x /tmp/w/cgi-bin/go; echo ok > /tmp/w/health; exec httpd -f -p 8000 -h /tmp/w',
    )
    const answer = await start({
      session_id,
      image: TOOLBOX,
      command,
      health_check_endpoint: '/cgi-bin/go',
      health_check_timeout_seconds: 2,
    })
    expect(answer.status).toBe(504)
    const direct = await start({ session_id, image: TOOLBOX, command, health_check_endpoint: '/health' })
    expect(direct.status).toBe(201)
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it('refuses a second relic of one name in a session while the first lives', async () => {
    const session_id = newSession()
    const [first, second] = await Promise.all([start({ session_id }), start({ session_id })])
    expect([first.status, second.status].toSorted()).toEqual([201, 409])
    const third = await start({ session_id, create_private_network: false, relic_name: 'other' })
    expect(third.status).toBe(201)
    await client.post('/containers/cleanup/session', { session_id, force: true })
    const without = await start({ session_id: newSession(), create_private_network: false })
    expect([without.status, without.body.code]).toEqual([409, 'conflict'])
  })

  it('publishes ports on the loopback address alone', async () => {
    const session_id = newSession()
    const { body } = await start({ session_id, ports: { '8000': 0 } })
    expect(body.ports['8000']).toBeGreaterThan(0)
    const url = `http://127.0.0.1:${body.ports['8000']}/health`
    expect(await (await fetch(url)).text()).toContain('ok')
    const gateway = (await service.engine.containers.inspect(body.container_id))?.networks[0]?.gateway
    const inside = {
      session_id,
      network_mode: 'session',
      command: ['nc', '-w', '2', `${gateway}`, String(body.ports['8000'])],
    }
    expect(await client.run(inside)).toMatchObject({
      exit_code: 1,
      stdout: '',
      stderr: expect.stringMatching(/timed out|unreachable|No route/i),
    })
    const taken = await start({ session_id, relic_name: 'second', ports: { '8000': body.ports['8000'] } })
    expect([taken.status, taken.body.code]).toEqual([409, 'conflict'])
    const restarted = await client.post(`/containers/relic/${body.relic_id}/restart`)
    expect(restarted.body.ports).toEqual(body.ports)
    expect(await (await fetch(url)).text()).toContain('ok')
    await client.post(`/containers/relic/${body.relic_id}/stop`, { timeout_seconds: 1 })
    await expect(fetch(url)).rejects.toThrow()
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })
})

describe('real software under the service profile', () => {
  /** Starts the package's cluster as Debian does, open to its session, after something else where given. */
  const postgres = (before = 'true') =>
    sh(
      `set -e; grep CapBnd /proc/self/status; ${before}; echo 'host all all samenet trust' >>/etc/postgresql/15/main/pg_hba.conf; exec pg_ctlcluster --foreground 15 main start -o '-c listen_addresses=*'`,
    )

  /** What the session's relic `db` answers a tool, once it takes connections. */
  async function asked(session_id: string, query: string): Promise<string> {
    const run = await client.run({
      session_id,
      image: POSTGRES,
      network_mode: 'session',
      command: sh(
        `for i in $(seq 100); do pg_isready -qh db && break; sleep 0.2; done; psql -h db -U postgres -Atc '${query}'`,
      ),
    })
    expect(run.status, run.stderr).toBe('completed')
    return run.stdout
  }

  it("runs Debian's nginx unchanged", async () => {
    const session_id = newSession()
    const answer = await start({
      session_id,
      image: DEBIAN,
      relic_name: 'nginx',
      command: ['nginx', '-g', 'daemon off;'],
      port: 80,
      health_check_endpoint: '/',
    })
    expect(answer.status, answer.text).toBe(201)
    const run = await client.run({ session_id, network_mode: 'session', command: ['wget', '-qO-', 'http://nginx/'] })
    expect(run.stdout).toContain('nginx')
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it("runs Debian's redis unchanged, and a tool talks to it", async () => {
    const session_id = newSession()
    const command = ['redis-server', '--bind', '0.0.0.0', '--protected-mode', 'no']
    const answer = await start({
      session_id,
      image: DEBIAN,
      relic_name: 'cache',
      command,
      port: 6379,
      health_check_endpoint: null,
    })
    expect(answer.status, answer.text).toBe(201)
    const run = await client.run({
      session_id,
      image: DEBIAN,
      network_mode: 'session',
      command: sh(
        'for i in 1 2 3 4 5 6 7 8 9; do redis-cli -h cache ping >/dev/null 2>&1 && break; sleep 0.2; done; redis-cli -h cache set k v; redis-cli -h cache get k',
      ),
    })
    expect(run.stdout).toBe('OK\nv\n')
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it("runs Debian's postgres unchanged, and a tool asks it", async () => {
    const session_id = newSession()
    const answer = await start({
      session_id,
      image: POSTGRES,
      relic_name: 'db',
      command: postgres(),
      port: 5432,
      health_check_endpoint: null,
    })
    expect(answer.status, answer.text).toBe(201)
    expect(await asked(session_id, 'select 6 * 7')).toBe('42\n')
    const { text } = await client.get(`/containers/relic/${answer.body.relic_id}/logs`)
    expect(text).toContain('database system is ready to accept connections')
    // CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, NET_BIND_SERVICE, and nothing else.
    expect(text).toContain('CapBnd:\t00000000000004eb\n')
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it('keeps a cluster of postgres on a volume, which it makes there, from one relic to the next', async () => {
    const session_id = newSession()
    const request = {
      session_id,
      image: POSTGRES,
      relic_name: 'db',
      port: 5432,
      health_check_endpoint: null,
      volumes: [{ source: 'cluster', target: '/var/lib/postgresql', read_only: false }],
    }
    const create = 'pg_dropcluster 15 main; chown postgres: /var/lib/postgresql; pg_createcluster 15 main'
    const first = await start({ ...request, command: postgres(create) })
    expect(first.status, first.text).toBe(201)
    expect(await asked(session_id, 'create table kept as select 7 as number; select * from kept')).toContain('7\n')
    // Stopped by a signal, as it should be: what is killed would repair itself at the next start.
    await client.post(`/containers/relic/${first.body.relic_id}/stop`, { timeout_seconds: 30 })
    expect((await client.get(`/containers/relic/${first.body.relic_id}/logs`)).text).toContain('is shut down')
    expect((await client.delete(`/containers/relic/${first.body.relic_id}`)).status).toBe(204)
    const second = await start({ ...request, command: postgres() })
    expect(second.status, second.text).toBe(201)
    expect(await asked(session_id, 'select * from kept')).toBe('7\n')
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })
})

describe('a relic that runs', () => {
  it('can be stopped, inspected, restarted and deleted, each of them again', async () => {
    const session_id = newSession()
    const { body } = await start({ session_id, command: sh('echo serving; exec httpd -f -p 8000 -h /www') })
    const path = `/containers/relic/${body.relic_id}`
    for (const again of [1, 2]) {
      const stopped = await client.post(`${path}/stop`, { timeout_seconds: 1 })
      expect(stopped.status, String(again)).toBe(200)
      expect(stopped.body).toMatchObject({ status: 'stopped', internal_url: null, failure: null })
    }
    expect((await service.engine.containers.inspect(body.container_id))?.status).toBe('exited')
    expect((await client.get(`${path}/logs`)).text).toContain('serving')
    const restarted = await client.post(`${path}/restart`)
    expect(restarted.status, restarted.text).toBe(200)
    expect(restarted.body).toMatchObject({ status: 'healthy', container_id: body.container_id, stopped_at: null })
    expect((await client.post(`${path}/restart`)).body.status).toBe('healthy')
    expect((await client.post(`${path}/stop`)).body.status).toBe('stopped')
    expect((await client.delete(path)).status).toBe(204)
    expect((await client.delete(path)).status).toBe(204)
    expect((await client.get(path)).status).toBe(404)
    expect(await service.engine.containers.inspect(body.container_id)).toBeUndefined()
    expect((await client.delete('/containers/relic/relic_unknown')).status).toBe(404)
    await client.post('/containers/cleanup/session', { session_id })
  })

  it('is restarted when it dies, as often as its policy says, and then failed with its cause', async () => {
    const session_id = newSession()
    const { body } = await start({ session_id, restart_policy: { max_retries: 2 } })
    const path = `/containers/relic/${body.relic_id}`
    for (const restarts of [1, 2]) {
      await service.engine.containers.kill(body.container_id)
      await expect
        .poll(async () => (await client.get(path)).body, { timeout: 20_000 })
        .toMatchObject({ status: 'healthy', restarts })
    }
    await service.engine.containers.kill(body.container_id)
    await expect
      .poll(async () => (await client.get(path)).body, { timeout: 20_000 })
      .toMatchObject({ status: 'failed', failure: { code: 'killed' }, internal_url: null })
    await client.post('/containers/cleanup/session', { session_id })
  })

  it('is started once where a caller restarts it while it waits for its own restart', async () => {
    const session_id = newSession()
    const command = sh(
      'mkdir /tmp/w; : > /tmp/w/health; httpd -p 8000 -h /tmp/w; while sleep 0.2; do cat /proc/uptime; done',
    )
    const { body } = await start({ session_id, image: TOOLBOX, command, restart_policy: { max_retries: 9 } })
    const path = `/containers/relic/${body.relic_id}`
    const relic = async () => (await client.get(path)).body
    for (const restarts of [1, 2, 3]) {
      await service.engine.containers.kill(body.container_id)
      await expect.poll(relic, { timeout: 20_000 }).toMatchObject({ status: 'healthy', restarts })
    }
    // The pause before the fourth is 1.6 seconds.
    await service.engine.containers.kill(body.container_id)
    await expect.poll(relic).toMatchObject({ status: 'starting', restarts: 4 })
    expect((await client.post(`${path}/restart`)).body).toMatchObject({ status: 'healthy', restarts: 5 })
    const { started_at } = await relic()
    await sleep(2_000)
    expect(await relic()).toMatchObject({ status: 'healthy', restarts: 5, started_at })
    const lines = (await client.get(`${path}/logs`)).text.trimEnd().split('\n')
    expect(lines).toHaveLength(new Set(lines).size)
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it('tells its health with the last probes', async () => {
    const session_id = newSession()
    const { body } = await start({ session_id })
    const health = await client.get(`/containers/relic/${body.relic_id}/health`)
    expect(health.body).toMatchObject({ relic_id: body.relic_id, status: 'healthy', healthy: true })
    expect(health.body.probes.at(-1)).toMatchObject({ healthy: true, status_code: 200, error: null })
    expect(health.body.probes.length).toBeLessThanOrEqual(10)
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it('streams its logs until it stops, and then ends', async () => {
    const session_id = newSession()
    const { body } = await start({
      session_id,
      command: sh('(i=0; while :; do echo "beat $i"; i=$((i+1)); sleep 0.1; done) & exec httpd -f -p 8000 -h /www'),
    })
    const path = `/containers/relic/${body.relic_id}`
    const reading = client.events(`${path}/logs?follow=true`)
    await new Promise((resolve) => setTimeout(resolve, 700))
    await client.post(`${path}/stop`, { timeout_seconds: 1 })
    const events = await reading
    expect(events.filter(({ event }) => event === 'stdout').length).toBeGreaterThan(3)
    expect(events.at(-1)).toMatchObject({ event: 'end', data: { status: 'stopped' } })
    await client.post('/containers/cleanup/session', { session_id })
  })

  it('is listed by session and status', async () => {
    const session_id = newSession()
    const { body } = await start({ session_id })
    const list = await client.get(`/containers/relic?session_id=${session_id}`)
    expect(list.body.items.map((relic: { relic_id: string }) => relic.relic_id)).toEqual([body.relic_id])
    expect((await client.get(`/containers/relic?session_id=${session_id}&status=stopped`)).body.items).toEqual([])
    await client.post('/containers/cleanup/session', { session_id, force: true })
    expect((await client.get(`/containers/relic?session_id=${session_id}`)).body.items).toEqual([])
  })
})

describe('isolation of sessions', () => {
  it('keeps relics of two sessions from reaching each other, by name or by address', async () => {
    const [mine, other] = [newSession('mine'), newSession('other')]
    await start({ session_id: mine, relic_name: 'control' })
    const victim = (await start({ session_id: other, relic_name: 'victim' })).body
    const address = (await service.engine.containers.inspect(victim.container_id))?.networks[0]?.address
    expect(address).toMatch(/^10\./)
    const ask = (session_id: string, url: string) =>
      client.run({
        session_id,
        network_mode: 'session',
        command: ['wget', '-qO-', url],
        resource_limits: { timeout_seconds: 3 },
      })
    expect(await ask(mine, 'http://control:8000/health')).toMatchObject({ stderr: '', status: 'completed' })
    expect((await ask(other, `http://${address}:8000/health`)).status).toBe('completed')
    const urls = [address, 'victim', victim.container_name].map((host) => `http://${host}:8000/health`)
    for (const told of await Promise.all(urls.map((url) => ask(mine, url)))) {
      expect(told).toMatchObject({ status: expect.stringMatching(/^(failed|timeout)$/), stdout: '' })
    }
    await Promise.all(
      [mine, other].map((session_id) => client.post('/containers/cleanup/session', { session_id, force: true })),
    )
  })
})
