import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DECOY_GREETING, startDecoy } from '../fixtures/decoy.ts'
import { NODE, NONROOT, TOOLBOX, UNREACHABLE } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'
import { WorkerClient } from '../fixtures/workers.ts'

let service: TestService
let client: WorkerClient
/** Of the operator. */
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'co-operator-'))
  const config = join(folder, 'config.yaml')
  await writeFile(
    config,
    `worker_environment_prefixes: [ACME]
profiles:
  open: { extends: workspace, networks: [none, session, internal, bridge] }
`,
  )
  service = await startService({ environment: { CO_CONFIG: config } })
  client = new WorkerClient(service.url)
})
afterAll(async () => {
  await service.destroy()
  await rm(folder, { recursive: true, force: true })
})

const start = (worker_id: string, request: Record<string, unknown> = {}) =>
  client.post('/containers/worker/start', { worker_id, image: TOOLBOX, ...request })
const containersOf = async (workerId: string) =>
  (await service.services.docker.list()).filter(({ owner }) => owner.kind === 'worker' && owner.name === workerId)

/** A command that goes on when the test says `go`: however long a start takes, it is over before. */
const whenTold = (command: string) => `until [ -f go ]; do sleep 0.05; done; ${command}`
const go = (workerId: string) => client.send('PUT', `/containers/worker/${workerId}/files/go`, '')

/** Cores and processes that the kernel gives a worker: the files of cgroup v2, or those of v1. */
async function limitsInside(workerId: string): Promise<{ cpus: number; pids: number }> {
  const seen = await client.output(
    workerId,
    `cd /sys/fs/cgroup
if [ -f cgroup.controllers ]; then cat cpu.max pids.max
else echo "$(cat cpu/cpu.cfs_quota_us) $(cat cpu/cpu.cfs_period_us)"; cat pids/pids.max
fi`,
  )
  const [quota, period, pids] = seen.split(/\s+/).map(Number)
  return { cpus: Number(quota) / Number(period), pids: Number(pids) }
}

describe('POST /containers/worker/start', () => {
  it('answers 201 when the worker runs, in /workspace, with its identity in the environment', async () => {
    const session_id = newSession()
    const answer = await start('identity', { session_id, task_id: 'task-7', environment: { GREETING: "it's $HOME" } })
    expect(answer.status).toBe(201)
    expect(answer.headers.get('location')).toBe('/containers/worker/identity')
    expect(answer.body).toMatchObject({
      worker_id: 'identity',
      session_id,
      task_id: 'task-7',
      status: 'running',
      exit_code: null,
      failure: null,
    })
    const seen = await client.output('identity', 'echo "$PWD|$WORKER_ID|$TASK_ID|$SESSION_ID|$GREETING"')
    expect(seen).toBe(`/workspace|identity|task-7|${session_id}|it's $HOME`)
    expect((await client.get('/containers/worker/identity')).body).toEqual(answer.body)
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it('confines a worker as the kernel sees it', async () => {
    const worker = await client.startWorker('confined')
    const [uid, status, root] = await Promise.all([
      client.output('confined', 'id -u'),
      client.output('confined', 'cat /proc/self/status'),
      client.output('confined', 'touch /file 2>&1 || true'),
    ])
    expect(uid).toBe('1000')
    expect(status).toMatch(/CapEff:\s+0000000000000000/)
    expect(status).toMatch(/CapBnd:\s+0000000000000000/)
    expect(status).toMatch(/NoNewPrivs:\s+1/)
    // An older runc now and then starts a process with the soft limit raised to the hard one (opencontainers/runc#4195).
    await expect.poll(() => client.output('confined', 'ulimit -Sn; ulimit -Hn'), { timeout: 10_000 }).toBe('1024\n2048')
    expect(root).toMatch(/read-only/i)
    expect(await limitsInside('confined')).toEqual({ cpus: 2, pids: 1000 })
    expect(await client.output('confined', 'df -k /tmp ~ | grep -c tmpfs')).toBe('2')
    // What can be written is the workspace, /tmp and the home folder, and things there can be run.
    const script =
      'for f in /workspace /tmp ~; do printf "#!/bin/sh\\necho ran\\n" > $f/x && chmod +x $f/x && $f/x; done'
    expect(await client.output('confined', script)).toBe('ran\nran\nran')
    const { body: stats } = await client.get('/containers/worker/confined/stats')
    expect(stats).toMatchObject({ memory_limit_mb: 4096, kind: 'worker', id: 'confined' })
    expect(worker).toMatchObject({ memory_limit_bytes: 4 * 1024 ** 3, cpu_limit: 2, pids_limit: 1000 })
    await client.delete('/containers/worker/confined')
  })

  it('bounds cores and processes by the request', async () => {
    await client.startWorker('bounded', { cpu_limit: 0.5, pids_limit: 64 })
    expect(await limitsInside('bounded')).toEqual({ cpus: 0.5, pids: 64 })
    const forks = 'i=0; while [ $i -lt 80 ]; do sleep 5 & i=$((i + 1)); done'
    expect((await client.exec('bounded', forks, { timeout_seconds: 20 })).stderr).toMatch(/fork/)
    await client.delete('/containers/worker/bounded')
  })

  it('keeps the internal bridge from the outside, which a bridge of the operator’s profile reaches', async () => {
    await using decoy = await startDecoy()
    await Promise.all([
      client.startWorker('inside'),
      client.startWorker('open', { profile: 'open', network: 'bridge' }),
    ])
    const dial = `nc -w 3 ${decoy.address} ${decoy.port} </dev/null`
    expect(await client.output('open', dial)).toBe(DECOY_GREETING)
    const { network } = await client.worker('inside')
    expect((await service.engine.networks.inspect(network.id))?.internal).toBe(true)
    expect(await client.exec('inside', dial)).toMatchObject({ status: 'failed', stdout: '' })
    await Promise.all(['inside', 'open'].map((id) => client.delete(`/containers/worker/${id}`)))
  })

  it('keeps workers on the internal bridge from each other', async () => {
    await Promise.all([client.startWorker('a1', { command: 'httpd -f -p 8000' }), client.startWorker('a2')])
    const state = await service.engine.containers.inspect((await client.worker('a1')).container_id)
    const address = state?.networks[0]?.address
    expect((await client.worker('a1')).network).toMatchObject({
      mode: 'internal',
      name: expect.stringMatching(/^internal_/),
    })
    expect(await client.output('a1', `nc ${address} 8000 </dev/null && echo reached`)).toBe('reached')
    const peer = await client.exec('a2', `nc -w 2 ${address} 8000 </dev/null && echo reached`)
    expect(peer.stdout).toBe('')
    await Promise.all(['a1', 'a2'].map((id) => client.delete(`/containers/worker/${id}`)))
  })

  it('gives the network that is asked for, within the operator’s policy', async () => {
    const session_id = newSession()
    await client.startWorker('n1', { session_id, network: 'session', command: 'httpd -f -p 8000', environment: {} })
    await client.startWorker('n2', { session_id, network: 'session' })
    expect(await client.output('n2', 'nc n1 8000 </dev/null && echo reached')).toBe('reached')
    await client.startWorker('n3', { network: 'none' })
    expect(await client.output('n3', 'ls /sys/class/net')).toBe('lo')
    const bridge = await start('n4', { network: 'bridge' })
    expect([bridge.status, bridge.body.code]).toEqual([403, 'policy_denied'])
    expect((await client.get('/containers/worker/n4')).status).toBe(404)
    await client.delete('/containers/worker/n3')
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it('replaces a stale container of the same worker, and answers 409 to a live one', async () => {
    const first = await client.startWorker('again')
    await client.output('again', 'echo kept > /workspace/file')
    const live = await start('again')
    expect([live.status, live.body.code]).toEqual([409, 'conflict'])
    await client.post('/containers/worker/again/stop', { timeout_seconds: 0 })
    const second = await client.startWorker('again')
    expect(second.container_id).not.toBe(first.container_id)
    expect((await containersOf('again')).map(({ id }) => id)).toEqual([second.container_id])
    expect(await client.output('again', 'cat /workspace/file')).toBe('kept')
    await client.delete('/containers/worker/again')
  })

  it('runs an image’s own shell, waiting, and a command of the caller’s with a closed stdin', async () => {
    await client.startWorker('node', { image: NODE, memory_limit: '512m' })
    expect((await client.worker('node')).status).toBe('running')
    const ended = await start('cat', { command: ['cat'] })
    expect(ended.body).toMatchObject({ status: 'completed', exit_code: 0, exit_meaning: { action: 'complete' } })
    await Promise.all(['node', 'cat'].map((id) => client.delete(`/containers/worker/${id}`)))
  })

  it('runs as the image’s user where that is not root, and never as root by request', async () => {
    const worker = await client.startWorker('user', { image: NONROOT })
    expect(worker.user).not.toMatch(/^0:/)
    expect(`${await client.output('user', 'id -u')}:${await client.output('user', 'id -g')}`).toBe(worker.user)
    await client.output('user', 'touch /workspace/mine ~/mine')
    for (const user of ['root', '0', '0:0']) {
      const denied = await start('root', { user })
      expect([denied.status, denied.body.code]).toEqual([403, 'policy_denied'])
    }
    const unknown = await start('nobody-knows', { user: 'nobody-knows' })
    expect([unknown.status, unknown.body.code]).toEqual([400, 'validation_failed'])
    expect(await containersOf('root')).toEqual([])
    await client.delete('/containers/worker/user')
  })

  it.each([
    ['memory_limit', '4 gigs'],
    ['memory_limit', '4'],
    ['memory_limit', '-1g'],
    ['memory_limit', '1m'],
    ['memory_limit', 4096],
    ['cpu_limit', 1024],
    ['workspace', {}],
    ['command', 5],
    ['environment', { 'A=B': 'x' }],
    ['worker_id', '../x'],
    ['network', 'host'],
    ['user', 'a b'],
    ['exit_codes', { '300': { meaning: 'x', action: 'fail' } }],
    ['privileged', true],
  ])('refuses %s %j with the field’s path', async (field, value) => {
    const answer = await client.post('/containers/worker/start', { worker_id: 'bad', image: TOOLBOX, [field]: value })
    expect(answer.status).toBe(400)
    expect(answer.text).toContain(field)
  })

  it.each(['/sys', '/proc/self', '/dev', '/run/worker/x', '/tmp/../sys'])('makes no home of %s', async (HOME) => {
    const answer = await start('home', { environment: { HOME } })
    expect([answer.status, answer.body.code]).toEqual([403, 'policy_denied'])
    expect(await containersOf('home')).toEqual([])
  })

  it('tells GPU requests that the engine has none, before anything is made', async () => {
    const answer = await start('gpu', { gpu: { count: 1 } })
    expect([answer.status, answer.body.code]).toEqual([422, 'gpu_unavailable'])
    expect(await containersOf('gpu')).toEqual([])
    expect((await client.get('/containers/worker/gpu')).status).toBe(404)
  })

  it('blames the registry for an image that cannot be pulled, and leaves nothing', async () => {
    const answer = await start('unpullable', { image: UNREACHABLE })
    expect([answer.status, answer.body.code]).toEqual([502, 'pull_failed'])
    expect(await containersOf('unpullable')).toEqual([])
  })
})

describe('readiness', () => {
  it('tells that the container did not stay running, with exit code and log tail, and leaves nothing', async () => {
    const answer = await start('crash', { command: 'echo no licence; exit 3' })
    expect(answer.status).toBe(422)
    expect(answer.body).toMatchObject({
      phase: 'running',
      exit_code: 3,
      logs_tail: 'no licence\n',
      code: 'start_failed',
    })
    expect(await containersOf('crash')).toEqual([])
    expect(await service.services.workers.get('crash')).toMatchObject({ status: 'failed', container_id: null })
    expect((await client.get('/containers/worker/crash/logs')).text).toBe('no licence\n')
    expect((await service.engine.volumes.list({})).filter(({ name }) => name.includes('_crash_'))).toEqual([])
  })

  it('waits for the ready command', async () => {
    const ready = { command: 'test -f /workspace/ready' }
    const worker = await client.startWorker('slow', { command: 'sleep 1; touch /workspace/ready; sleep 600', ready })
    expect(Date.parse(worker.ready_at) - Date.parse(worker.started_at)).toBeGreaterThan(900)
    await client.delete('/containers/worker/slow')
  })

  it('tells a ready command that never succeeds, with its exit code and the log tail', async () => {
    const ready = { command: 'echo not yet; sleep 0.3; exit 4', timeout_seconds: 1 }
    const answer = await start('unready', { command: 'echo started; sleep 600', ready })
    expect([answer.status, answer.body.code]).toEqual([504, 'health_check_timeout'])
    expect(answer.body).toMatchObject({ phase: 'ready', exit_code: 4, logs_tail: 'started\n' })
    expect(answer.body.detail).toContain('not yet')
    expect(await containersOf('unready')).toEqual([])
  })

  it('keeps the stopped container where that is asked for', async () => {
    const ready = { command: ['false'], timeout_seconds: 0.5 }
    const command = 'echo evidence > /workspace/evidence; sleep 600'
    const answer = await start('kept', { command, ready, keep_on_failure: true })
    expect(answer.status).toBe(504)
    const [container] = await containersOf('kept')
    expect(container?.status).toBe('exited')
    expect(await client.worker('kept')).toMatchObject({ status: 'failed', container_id: container?.id })
    expect((await client.get('/containers/worker/kept/files/evidence')).text).toBe('evidence\n')
    await client.delete('/containers/worker/kept')
    expect(await containersOf('kept')).toEqual([])
  })
})

describe('POST /containers/worker/{id}/ensure', () => {
  it('makes one container for two calls at once', async () => {
    const ensure = () => client.post('/containers/worker/both/ensure', { image: TOOLBOX })
    const answers = await Promise.all([ensure(), ensure()])
    expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 201])
    expect(answers[0]?.body.container_id).toBe(answers[1]?.body.container_id)
    expect(await containersOf('both')).toHaveLength(1)
    expect((await ensure()).status).toBe(200)
  })

  it('starts a stopped one again, thaws a paused one, and makes a new container for one that is gone', async () => {
    const ensure = () => client.post('/containers/worker/both/ensure', { image: TOOLBOX })
    const before = await client.worker('both')
    await client.post('/containers/worker/both/stop', { timeout_seconds: 1 })
    expect((await ensure()).body).toMatchObject({ status: 'running', container_id: before.container_id })
    await client.post('/containers/worker/both/pause')
    expect((await ensure()).body).toMatchObject({ status: 'running', container_id: before.container_id })
    await service.engine.containers.remove(before.container_id)
    await expect.poll(async () => (await client.worker('both')).status).toBe('failed')
    expect(await client.worker('both')).toMatchObject({ failure: { code: 'lost' }, container_id: null })
    const again = await ensure()
    expect([again.status, again.body.status]).toEqual([200, 'running'])
    expect(again.body.container_id).not.toBe(before.container_id)
    await client.delete('/containers/worker/both')
  })

  it('refuses a body that names another worker', async () => {
    const answer = await client.post('/containers/worker/one/ensure', { worker_id: 'two', image: TOOLBOX })
    expect([answer.status, answer.body.errors[0].path]).toEqual([400, 'worker_id'])
  })
})

describe('examples/worker.sh', () => {
  it('runs as it stands in the checkout', async () => {
    const { stdout } = await promisify(execFile)('bash', ['examples/worker.sh'], {
      cwd: new URL('../..', import.meta.url).pathname,
      env: { ...process.env, BASE_URL: service.url },
    })
    expect(stdout).toContain('worker: all steps passed')
  })
})

describe('the life of a worker', () => {
  it('is stopped with a grace, and keeps its files and logs', async () => {
    const command = "trap 'echo saved > /workspace/state; echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    await client.startWorker('graceful', { command })
    const stopped = await client.post('/containers/worker/graceful/stop')
    expect(stopped.body).toMatchObject({ status: 'stopped', exit_code: 0 })
    expect((await client.post('/containers/worker/graceful/stop')).status).toBe(200)
    expect((await client.get('/containers/worker/graceful/logs')).text).toBe('up\nbye\n')
    expect((await client.get('/containers/worker/graceful/logs?tail=1')).text).toBe('bye\n')
    expect((await client.get('/containers/worker/graceful/files/state')).text).toBe('saved\n')
    await client.delete('/containers/worker/graceful')
    expect((await client.get('/containers/worker/graceful')).status).toBe(404)
    expect((await client.delete('/containers/worker/graceful')).status).toBe(204)
    expect((await client.delete('/containers/worker/never-was')).status).toBe(404)
    expect((await service.engine.volumes.list({})).filter(({ name }) => name.includes('_graceful_'))).toEqual([])
  })

  it('is restarted three times with a growing pause, and then failed, with its logs', async () => {
    await client.startWorker('crashing', { command: whenTold('echo try; exit 7') })
    await go('crashing')
    await expect.poll(async () => (await client.worker('crashing')).status, { timeout: 30_000 }).toBe('failed')
    expect(await client.worker('crashing')).toMatchObject({
      restarts: 3,
      exit_code: 7,
      exit_meaning: { meaning: 'failed', action: 'restart' },
      failure: { code: 'nonzero_exit' },
    })
    expect((await client.get('/containers/worker/crashing/logs')).text).toBe('try\n'.repeat(4))
    await client.delete('/containers/worker/crashing')
  })

  it.each([
    [0, 'completed', 'done'],
    [3, 'failed', 'blocked'],
    [130, 'stopped', 'stopped'],
    [143, 'stopped', 'stopped'],
  ])('takes exit code %i for %s', async (code, status, meaning) => {
    await client.startWorker(`code-${code}`, { command: whenTold(`exit ${code}`) })
    await go(`code-${code}`)
    await expect.poll(async () => (await client.worker(`code-${code}`)).status, { timeout: 10_000 }).toBe(status)
    expect(await client.worker(`code-${code}`)).toMatchObject({
      exit_code: code,
      exit_meaning: { meaning },
      restarts: 0,
    })
    await client.delete(`/containers/worker/code-${code}`)
  })

  it('takes exit codes as the caller says', async () => {
    const exit_codes = { '9': { meaning: 'all read', action: 'complete' }, '0': { meaning: 'again', action: 'fail' } }
    await client.startWorker('own-codes', { command: whenTold('exit 9'), exit_codes })
    await go('own-codes')
    await expect.poll(async () => (await client.worker('own-codes')).status, { timeout: 10_000 }).toBe('completed')
    expect((await client.worker('own-codes')).exit_meaning).toEqual({ meaning: 'all read', action: 'complete' })
    await client.delete('/containers/worker/own-codes')
  })

  it('tells out of memory by the engine’s word, and 137 alone as a kill', async () => {
    const oom = whenTold('x=a; while :; do x=$x$x; done')
    await client.startWorker('oom', { command: oom, memory_limit: '32m', restart_policy: { max_retries: 0 } })
    await go('oom')
    await expect.poll(async () => (await client.worker('oom')).status, { timeout: 20_000 }).toBe('failed')
    expect(await client.worker('oom')).toMatchObject({
      failure: { code: 'oom_killed' },
      exit_meaning: { meaning: 'out of memory' },
    })
    const { container_id } = await client.startWorker('killed', { restart_policy: { max_retries: 0 } })
    await service.engine.containers.kill(container_id)
    await expect.poll(async () => (await client.worker('killed')).status, { timeout: 10_000 }).toBe('failed')
    expect(await client.worker('killed')).toMatchObject({ exit_code: 137, failure: { code: 'killed' } })
    await Promise.all(['oom', 'killed'].map((id) => client.delete(`/containers/worker/${id}`)))
  })

  it('follows its logs to the end, with ids to resume from', async () => {
    await client.startWorker('talking', { command: 'for i in 1 2 3; do echo line $i; sleep 0.3; done' })
    const events = await client.events('/containers/worker/talking/logs?follow=true')
    const text = events.filter(({ event }) => event === 'stdout').map(({ data }) => data.text)
    expect(text.join('')).toBe('line 1\nline 2\nline 3\n')
    expect(events.at(-1)).toMatchObject({ event: 'end', data: { status: 'completed' } })
    const first = events.find(({ event }) => event === 'stdout')
    const rest = await client.events('/containers/worker/talking/logs?follow=true', {
      headers: { 'last-event-id': first?.id ?? '' },
    })
    const resumed = rest.filter(({ event }) => event === 'stdout').map(({ data }) => data.text)
    expect(`${first?.data.text}${resumed.join('')}`).toBe('line 1\nline 2\nline 3\n')
    await client.delete('/containers/worker/talking')
  })

  it('is frozen and thawed', async () => {
    await client.startWorker('frozen', { command: 'while :; do date +%s%N > /workspace/clock; sleep 0.05; done' })
    const clock = async () => (await client.get('/containers/worker/frozen/files/clock')).text
    expect((await client.post('/containers/worker/frozen/pause')).body.status).toBe('paused')
    expect((await client.post('/containers/worker/frozen/pause')).status).toBe(200)
    const before = await clock()
    const refused = await client.post('/containers/worker/frozen/exec', { command: 'true' })
    expect([refused.status, refused.body.code]).toEqual([409, 'conflict'])
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(await clock()).toBe(before)
    expect((await client.post('/containers/worker/frozen/resume')).body.status).toBe('running')
    await expect.poll(clock).not.toBe(before)
    await client.post('/containers/worker/frozen/pause')
    expect((await client.post('/containers/worker/frozen/stop', { timeout_seconds: 1 })).body.status).toBe('stopped')
    await client.delete('/containers/worker/frozen')
  })

  it('leaves a snapshot that another worker starts from', async () => {
    const session_id = newSession()
    await client.startWorker('writable', {
      image: NODE,
      readonly_root: false,
      session_id,
      task_id: 'task-of-the-original',
      environment: { API_KEY: 'sk-secret' },
    })
    await client.output('writable', 'echo installed > /var/tmp/marker')
    const snapshot = await client.post('/containers/worker/writable/snapshot', { name: `test-${newSession()}` })
    expect(snapshot.status).toBe(201)
    const image = await service.engine.images.inspect(snapshot.body.image)
    expect(JSON.stringify(image)).not.toContain('sk-secret')
    expect(JSON.stringify(image)).not.toContain('worker-start')
    const named = image?.environment.filter((variable) => /(WORKER|TASK|SESSION)_ID=/.test(variable)).toSorted()
    const names = ['SESSION_ID=', 'TASK_ID=', 'WORKER_ID=']
    expect(named).toEqual([...names.map((name) => `ACME_${name}`), ...names])
    await client.startWorker('copy', { image: snapshot.body.image })
    expect(await client.output('copy', 'cat /var/tmp/marker')).toBe('installed')
    await Promise.all(['copy', 'writable'].map((id) => client.delete(`/containers/worker/${id}`)))
    await service.engine.images.remove(snapshot.body.image_id)
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it('publishes ports on loopback alone', async () => {
    const command = 'mkdir -p /tmp/w; echo served > /tmp/w/index.html; exec httpd -f -p 8000 -h /tmp/w'
    const { ports } = await client.startWorker('published', { command, ports: { '8000': 0 } })
    expect(await (await fetch(`http://127.0.0.1:${ports['8000']}/`)).text()).toBe('served\n')
    await client.delete('/containers/worker/published')
    await expect(fetch(`http://127.0.0.1:${ports['8000']}/`)).rejects.toThrow()
  })
})
