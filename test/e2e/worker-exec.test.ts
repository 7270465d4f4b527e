import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newId } from '../../src/managers/names.ts'
import { DEBIAN } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { buildShellless, removeImage } from '../fixtures/shellless.ts'
import { WorkerClient } from '../fixtures/workers.ts'

let service: TestService
let client: WorkerClient
let shellless: string

beforeAll(async () => {
  service = await startService()
  client = new WorkerClient(service.url)
  shellless = await buildShellless()
  await client.startWorker('w', { image: DEBIAN, environment: { FROM_START: 'yes' } })
})
afterAll(async () => {
  await service.destroy()
  await removeImage(shellless)
})

/** Command lines of the processes that run in a container, as its host sees them. */
async function top(workerId: string): Promise<string[]> {
  const running = await client.processes(workerId)
  return running.filter((line) => !line.includes('worker-start'))
}

describe('POST /containers/worker/{id}/exec', () => {
  it('runs a string in a shell, with both streams apart and the exit code', async () => {
    const exec = await client.exec('w', 'echo out; echo err >&2; exit 3')
    expect(exec).toMatchObject({
      status: 'failed',
      exit_code: 3,
      stdout: 'out\n',
      stderr: 'err\n',
      timed_out: false,
      failure: { code: 'nonzero_exit' },
    })
    expect(exec.duration_ms).toBeGreaterThan(0)
    expect((await client.get(`/containers/worker/w/exec/${exec.exec_id}`)).body).toEqual(exec)
  })

  it('runs argv as it stands, the image’s own program and not the toolbox’s', async () => {
    const odd = ['printf', '%s|', `a b`, `"q" 'q' $HOME`, 'ü🎉', '', '*']
    expect(await client.output('w', odd)).toBe(`a b|"q" 'q' $HOME|ü🎉||*|`)
    expect(await client.output('w', ['tar', '--version'])).toContain('GNU tar')
    expect(await client.exec('w', ['no-such-program'])).toMatchObject({
      status: 'failed',
      exit_code: 127,
      failure: { code: 'start_failed' },
      stderr: 'no-such-program: not found\n',
    })
  })

  it('takes folder, user, environment and stdin', async () => {
    const exec = await client.exec('w', 'pwd; id -u; echo "$A $FROM_START"; cat', {
      working_dir: '/tmp',
      user: '1234',
      environment: { A: 'given', FROM_START: 'overridden' },
      stdin: 'line\nlast',
    })
    expect(exec.stdout).toBe('/tmp\n1234\ngiven overridden\nline\nlast')
    expect(await client.output('w', 'echo $FROM_START')).toBe('yes')
    expect(await client.output('w', 'cat')).toBe('')
    const large = 'x'.repeat(700_000)
    expect(await client.output('w', 'wc -c', { stdin: large })).toBe('700000')
    expect(await client.exec('w', 'true', { working_dir: '/no/such/folder' })).toMatchObject({
      exit_code: 125,
      failure: { code: 'start_failed', message: expect.stringContaining('working_dir') },
    })
  })

  it.each([
    [{ user: 'root' }, 403, 'policy_denied'],
    [{ user: '0:0' }, 403, 'policy_denied'],
    [{ user: 'nobody-knows' }, 400, 'validation_failed'],
    [{ working_dir: '/proc/self/fd/7' }, 400, 'validation_failed'],
    [{ working_dir: '../x' }, 400, 'validation_failed'],
    [{ command: [] }, 400, 'validation_failed'],
    [{ command: ['a', 1] }, 400, 'validation_failed'],
    [{ environment: { 'A B': 'x' } }, 400, 'validation_failed'],
    [{ environment: { _w_folder: '/' } }, 400, 'validation_failed'],
    [{ privileged: true }, 400, 'validation_failed'],
  ])('refuses %j', async (change, status, code) => {
    const answer = await client.post('/containers/worker/w/exec', { command: 'true', ...change })
    expect([answer.status, answer.body.code]).toEqual([status, code])
  })

  it("lets nothing of a worker's PATH, LD_PRELOAD and the like reach the service's own programs", async () => {
    const [image, command] = [DEBIAN, ['/usr/bin/sleep', 'infinity']]
    const environment = { LD_PRELOAD: '/evil.so', PATH: '/evil', ENV: '/evil', BASH_ENV: '/evil', CDPATH: '/evil' }
    await client.startWorker('spoiled', { image, command, environment })
    const exec = await client.exec('spoiled', ['/usr/bin/printf', 'x'])
    expect(exec).toMatchObject({ exit_code: 0, stdout: 'x' })
    // The command's own loader tells it, and no other.
    expect(exec.stderr.match(/evil/g)).toHaveLength(1)
    const late = await client.exec('spoiled', ['/usr/bin/sleep', '611'], { timeout_seconds: 0.5 })
    expect(late).toMatchObject({ status: 'timeout', exit_code: 137 })
    await client.delete('/containers/worker/spoiled')
  })

  it('answers 404 for a worker that is not there, and 409 for one that does not run', async () => {
    expect((await client.post('/containers/worker/none/exec', { command: 'true' })).status).toBe(404)
    await client.startWorker('ended')
    await client.post('/containers/worker/ended/stop', { timeout_seconds: 0 })
    const answer = await client.post('/containers/worker/ended/exec', { command: 'true' })
    expect([answer.status, answer.body.code]).toEqual([409, 'conflict'])
    await client.delete('/containers/worker/ended')
  })

  it('keeps head and tail of long output, and counts all of it', async () => {
    const exec = await client.exec('w', 'echo first; head -c 3000000 /dev/zero | tr "\\0" x; echo; echo last')
    expect(exec.stdout_bytes).toBe(3_000_012)
    expect(exec.stdout_truncated).toBe(true)
    expect(exec.stdout.startsWith('first\nxxx')).toBe(true)
    expect(exec.stdout.endsWith('xxx\nlast\n')).toBe(true)
    expect(exec.stdout.length).toBeLessThan(1_100_000)
  })

  it('ends with its command, whatever that leaves in the background', async () => {
    const exec = await client.exec('w', 'sleep 611 & echo started')
    expect(exec).toMatchObject({ status: 'completed', exit_code: 0, stdout: 'started\n' })
    expect(await top('w')).toContain('sleep 611')
    await client.output(
      'w',
      'for p in /proc/[0-9]*; do grep -qx "Name:.sleep" $p/status 2>/dev/null && kill ${p#/proc/}; done; true',
    )
    expect(await top('w')).not.toContain('sleep 611')
  })
})

describe('a command that is ended', () => {
  it('takes all that it started with it on timeout', async () => {
    const exec = await client.exec('w', ['sh', '-c', 'sleep 600 & sleep 600'], { timeout_seconds: 0.5 })
    expect(exec).toMatchObject({ status: 'timeout', timed_out: true, exit_code: 137, failure: { code: 'timeout' } })
    expect((await top('w')).filter((line) => line.includes('sleep 600'))).toEqual([])
  })

  it('does not escape by daemonizing with an empty environment', async () => {
    const script = `
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve('/bin/sleep', ['sleep', '601'], {})
    os._exit(0)
os.wait()
time.sleep(600)
`
    const started = await client.exec('w', ['python3', '-c', script], { wait: false })
    await expect.poll(() => top('w'), { timeout: 10_000 }).toContain('sleep 601')
    const ended = await client.delete(`/containers/worker/w/exec/${started.exec_id}`)
    expect(ended.body).toMatchObject({ status: 'cancelled', exit_code: 137, failure: { code: 'cancelled' } })
    expect(await top('w')).not.toContain('sleep 601')
    expect((await client.delete(`/containers/worker/w/exec/${started.exec_id}`)).body).toEqual(ended.body)
  })

  it('does not outrun the kill by forking', async () => {
    const exec = await client.exec('w', 'while :; do (sleep 602 & sleep 602) & sleep 0.01; done', {
      timeout_seconds: 1,
    })
    expect(exec.status).toBe('timeout')
    expect((await top('w')).filter((line) => line.includes('602'))).toEqual([])
  })

  it('keeps to its time though it never reads its stdin, and to its output though it reads late', async () => {
    const stdin = 'x'.repeat(700_000)
    const deaf = await client.exec('w', ['sleep', '610'], { stdin, timeout_seconds: 0.5 })
    expect(deaf.status).toBe('timeout')
    const late = await client.exec('w', 'head -c 2000000 /dev/zero; wc -c', { stdin })
    expect(late).toMatchObject({ status: 'completed', stdout_bytes: 2_000_007 })
  })

  it('is dead in an image without a shell, too', async () => {
    await client.startWorker('bare', { image: shellless })
    const string = await client.exec('bare', 'sleep 603 & sleep 603', { timeout_seconds: 0.5 })
    expect(string).toMatchObject({ status: 'timeout', exit_code: 137 })
    const argv = await client.exec('bare', ['/busybox', 'sleep', '604'], { timeout_seconds: 0.5 })
    expect(argv).toMatchObject({ status: 'timeout', exit_code: 137 })
    expect((await top('bare')).filter((line) => /60[34]/.test(line))).toEqual([])
    expect(await client.output('bare', 'echo shell; ls / | grep -c busybox')).toBe('shell\n1')
    await client.delete('/containers/worker/bare')
  })

  it('spares what other commands run', async () => {
    const other = await client.exec('w', 'sleep 605', { wait: false })
    await client.exec('w', 'sleep 606', { timeout_seconds: 0.3 })
    expect(await top('w')).toContain('sleep 605')
    expect((await client.get(`/containers/worker/w/exec/${other.exec_id}`)).body.status).toBe('running')
    await client.delete(`/containers/worker/w/exec/${other.exec_id}`)
  })

  it('is what a bomb at the process limit comes to, with the worker', async () => {
    await client.startWorker('bombed', { pids_limit: 32 })
    // It needs no process of its own to wait: there may be none left.
    const exec = await client.exec('bombed', 'b() { b | b & }; b; until false; do :; done', { timeout_seconds: 1 })
    expect(exec).toMatchObject({ status: 'timeout' })
    await expect.poll(async () => (await client.worker('bombed')).status, { timeout: 20_000 }).toBe('running')
    expect(await top('bombed')).toHaveLength(1)
    await client.delete('/containers/worker/bombed')
  })

  it('goes on when its caller leaves, unless it was to end then', async () => {
    const leave = async (body: Record<string, unknown>) => {
      const abort = new AbortController()
      const call = fetch(`${service.url}/containers/worker/w/exec`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
        signal: abort.signal,
      }).catch(() => undefined)
      await expect.poll(() => top('w'), { timeout: 10_000 }).toContain(body['command'])
      abort.abort()
      await call
    }
    await leave({ command: 'sleep 607', cancel_on_disconnect: true })
    await expect.poll(() => top('w'), { timeout: 10_000 }).not.toContain('sleep 607')
    await leave({ command: 'sleep 608' })
    await sleep(500)
    expect(await top('w')).toContain('sleep 608')
    const { items } = (await client.get('/containers/worker/w/exec?status=running')).body
    expect(items.map(({ command }: { command: string }) => command)).toEqual(['sleep 608'])
    await client.delete(`/containers/worker/w/exec/${items[0].exec_id}`)
  })
})

describe('commands', () => {
  it('are kept up to a hundred for each worker, and go with it', async () => {
    await client.startWorker('many')
    const { exec_id } = await client.exec('many', 'echo first')
    const first = await service.store.execs.get(exec_id)
    if (first === undefined) throw new Error('a command has no record')
    for (let count = 1; count < 95; count++) {
      const id = newId('exec')
      await service.store.execs.insert({ ...first, id, view: { ...first.view, exec_id: id } })
    }
    await Promise.all(Array.from({ length: 10 }, () => client.exec('many', ['true'])))
    const list = (await client.get('/containers/worker/many/exec?limit=1000')).body
    expect(list.items).toHaveLength(100)
    expect(list.items[0]).not.toHaveProperty('stdout')
    expect((await client.get(`/containers/worker/many/exec/${exec_id}`)).status).toBe(404)
    const running = client.exec('many', 'sleep 609')
    await expect.poll(() => top('many'), { timeout: 10_000 }).toContain('sleep 609')
    await client.delete('/containers/worker/many')
    expect((await running).status).toBe('failed')
    const others = (await client.get('/containers/worker/w/exec?limit=1000')).body.items
    expect(await service.store.execs.count()).toBe(others.length)
  })
})

describe('streams', () => {
  it('give output as it comes, with ids, and end with the command', async () => {
    const events = await postEvents({ command: 'echo one; sleep 0.5; echo two >&2; exit 4', stream: true })
    const text = events.filter(({ event }) => event === 'stdout' || event === 'stderr')
    expect(text.map(({ event, data }) => [event, data.text])).toEqual([
      ['stdout', 'one\n'],
      ['stderr', 'two\n'],
    ])
    const ids = events.map(({ id }) => Number(id))
    expect(ids).toEqual(ids.toSorted((a, b) => a - b))
    expect(new Set(ids).size).toBe(ids.length)
    const end = events.at(-1)
    expect(end).toMatchObject({ event: 'end', data: { status: 'failed', exit_code: 4 } })
    const path = `/containers/worker/w/exec/${end?.data.exec_id}`
    const again = await client.events(path, {
      headers: { accept: 'text/event-stream', 'last-event-id': text[0]?.id ?? '' },
    })
    expect(again.filter(({ event }) => event === 'stdout')).toEqual([])
    expect(again.filter(({ event }) => event === 'stderr').map(({ data }) => data.text)).toEqual(['two\n'])
    expect(again.at(-1)?.event).toBe('end')
  })

  it('of a command that was not waited for tell all of it from the beginning', async () => {
    const started = await client.exec('w', 'for i in 1 2 3; do echo $i; sleep 0.2; done', { wait: false })
    expect(started.status).toBe('running')
    const events = await client.events(`/containers/worker/w/exec/${started.exec_id}?follow=true`)
    const text = events.filter(({ event }) => event === 'stdout').map(({ data }) => data.text)
    expect(text.join('')).toBe('1\n2\n3\n')
    expect(events.at(-1)?.data).toMatchObject({ status: 'completed', stdout: '1\n2\n3\n' })
  })
})

interface Event {
  id: string
  event: string
  // biome-ignore lint/suspicious/noExplicitAny: a test reads whatever the service sends
  data: any
}

async function postEvents(body: Record<string, unknown>): Promise<Event[]> {
  const answer = await fetch(`${service.url}/containers/worker/w/exec`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  const text = await answer.text()
  return text
    .split('\n\n')
    .filter((block) => block !== '' && !block.startsWith(':'))
    .map((block) => {
      const field = (name: string) =>
        block
          .split('\n')
          .find((line) => line.startsWith(`${name}: `))
          ?.slice(name.length + 2) ?? ''
      return { id: field('id'), event: field('event'), data: JSON.parse(field('data')) }
    })
}
