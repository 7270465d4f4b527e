/** What holds for every tool run, whether a container was parked for it or not. */
import { describe, expect, it } from 'vitest'
import { sh, toolRequest } from '../fixtures/client.ts'
import { NONROOT, TOOLBOX, UNREACHABLE } from '../fixtures/images.ts'
import { newSession } from '../fixtures/sessions.ts'
import type { ToolSetting } from '../fixtures/tool-setting.ts'

export function describeRuns(setting: ToolSetting): void {
  describe('POST /containers/tool/execute', () => {
    it('answers the finished run with output, exit code, result and times', async () => {
      const run = await setting.client.run({ command: sh('echo \'{"answer":42}\'; echo note >&2') })
      expect(run).toMatchObject({
        status: 'completed',
        exit_code: 0,
        failure: null,
        result: { answer: 42 },
        result_source: 'stdout',
        stdout: '{"answer":42}\n',
        stderr: 'note\n',
        stdout_bytes: 14,
        stderr_bytes: 5,
        stdout_truncated: false,
        image: TOOLBOX,
        warm: setting.mode === 'warm',
      })
      expect(run.image_id).toMatch(/^sha256:[0-9a-f]{64}$/)
      expect(run.container_id).toMatch(/^[0-9a-f]{64}$/)
      expect(Date.parse(run.completed_at)).toBeGreaterThanOrEqual(Date.parse(run.started_at))
      expect(run.timings).toMatchObject({
        queue_ms: expect.any(Number),
        start_ms: expect.any(Number),
        run_ms: run.duration_ms,
      })
      expect((await setting.client.get(`/containers/tool/${run.execution_id}`)).body).toEqual(run)
    })

    it('answers 200 with a failed run for an exit code that is not 0', async () => {
      const answer = await setting.client.post(
        '/containers/tool/execute',
        toolRequest({ command: sh('echo no >&2; exit 3') }),
      )
      expect(answer.status).toBe(200)
      expect(answer.headers.get('location')).toBe(`/containers/tool/${answer.body.execution_id}`)
      expect(answer.body).toMatchObject({
        status: 'failed',
        exit_code: 3,
        failure: { code: 'nonzero_exit' },
        stderr: 'no\n',
      })
    })

    it('begins in the folder of its image', async () => {
      const dockerfile = `FROM ${TOOLBOX}\nWORKDIR /srv/tool`
      const asked = { image: undefined, dockerfile, command: sh('pwd') }
      // The image is made for the first: nothing could have been parked for that.
      await setting.plain.run(asked)
      const run = await setting.client.run(asked)
      expect(run).toMatchObject({ status: 'completed', stdout: '/srv/tool\n' })
    })

    it('takes the result from /output/result.json before stdout, and from the last line where stdout is mixed', async () => {
      const file = await setting.client.run({
        command: sh('echo \'{"from":"stdout"}\'; echo \'{"from":"file"}\' > /output/result.json'),
      })
      expect(file).toMatchObject({ result: { from: 'file' }, result_source: 'file' })
      const line = await setting.client.run({ command: sh('echo working; echo \'["last",1]\'') })
      expect(line).toMatchObject({ result: ['last', 1], result_source: 'stdout_last_line' })
      const none = await setting.client.run({ command: sh('echo words; echo 12') })
      expect(none).toMatchObject({ result: null, result_source: null })
    })

    it('passes parameters, environment and identity as variables, byte for byte', async () => {
      const text = 'quotes " \' $HOME `x` \\ \n line 🎉 ü'
      const run = await setting.client.run({
        tool_name: 'env-tool',
        command: sh('printf "%s|%s|%s|%s|%s" "$PARAM_FILE_NAME" "$PARAM_DEEP" "$PLAIN" "$TOOL_NAME" "$SESSION_ID"'),
        parameters: { 'file-name': text, deep: { list: [1, null, 'x'] } },
        environment: { PLAIN: text },
      })
      expect(run.stdout).toBe(`${text}|{"list":[1,null,"x"]}|${text}|env-tool|s`)
      const all = await setting.client.run({
        command: sh('printf "%s" "$TOOL_PARAMETERS"'),
        parameters: { a: 1, b: [true] },
      })
      expect(all.result).toEqual({ a: 1, b: [true] })
      const id = await setting.client.run({ command: sh('printf "%s" "$EXECUTION_ID"') })
      expect(id.stdout).toBe(id.execution_id)
    })

    it('passes 100 KB of parameters', async () => {
      const blob = 'x'.repeat(100 * 1024)
      const run = await setting.client.run({ command: sh('printf "%s" "$PARAM_BLOB" | wc -c'), parameters: { blob } })
      expect(Number(run.stdout)).toBe(blob.length)
    })

    it('feeds stdin and closes it', async () => {
      const stdin = 'line one\nline two 🎉'.repeat(5000)
      const run = await setting.client.run({ command: ['cat'], stdin })
      expect(run.stdout).toBe(stdin)
    })

    it('ends stdin at once where none is given', async () => {
      expect(await setting.client.run({ command: ['cat'] })).toMatchObject({ status: 'completed', stdout: '' })
    })

    it('replaces the entrypoint where one is given', async () => {
      const run = await setting.client.run({
        entrypoint: ['echo', 'from the entrypoint'],
        command: ['and the command'],
      })
      expect(run.stdout).toBe('from the entrypoint and the command\n')
    })

    it('answers 202 with a Location at once where wait is false, or where the caller prefers it', async () => {
      for (const [body, headers] of [
        [{ wait: false }, {}],
        [{}, { prefer: 'respond-async' }],
      ] as const) {
        const answer = await setting.client.post(
          '/containers/tool/execute',
          toolRequest({ ...body, command: sh('sleep 0.5; echo done') }),
          headers,
        )
        expect(answer.status).toBe(202)
        expect(['queued', 'preparing', 'running']).toContain(answer.body.status)
        const path = answer.headers.get('location') ?? ''
        await expect
          .poll(async () => (await setting.client.get(path)).body.status, { timeout: 10_000 })
          .toBe('completed')
        expect((await setting.client.get(path)).body.stdout).toBe('done\n')
      }
    })

    it('leaves no container behind, unless it is asked to keep it', async () => {
      const gone = await setting.client.run({ command: ['true'] })
      await setting.service.services.docker.settled()
      expect(await setting.service.engine.containers.inspect(gone.container_id)).toBeUndefined()
      const session_id = newSession()
      const kept = await setting.plain.run({ session_id, command: ['true'], cleanup: false })
      await setting.service.services.docker.settled()
      expect((await setting.service.engine.containers.inspect(kept.container_id))?.status).toBe('exited')
      await setting.client.post('/containers/cleanup/orphans', {})
      expect((await setting.service.engine.containers.inspect(kept.container_id))?.status).toBe('exited')
      expect((await setting.client.post('/containers/cleanup/session', { session_id })).body.containers_removed).toBe(1)
      expect(await setting.service.engine.containers.inspect(kept.container_id)).toBeUndefined()
    })

    it('runs an image whose user is not root, and lets it write to /output and /tmp', async () => {
      const run = await setting.client.run({
        image: NONROOT,
        command: sh('id -u; echo x > /tmp/x && echo \'{"ok":true}\' > /output/result.json; cat /input/in.txt'),
        input_files: { 'in.txt': 'given\n' },
      })
      expect(run).toMatchObject({ status: 'completed', stdout: '1000\ngiven\n', result: { ok: true } })
    })

    it('shows what a run used where it lasted long enough to be sampled, and null where not', async () => {
      const long = await setting.client.run({
        command: sh('i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sleep 1.5'),
      })
      expect(long.resource_usage).toMatchObject({ samples: expect.any(Number), memory_peak_mb: expect.any(Number) })
      expect(long.resource_usage.cpu_seconds).toBeGreaterThan(0)
      expect(long.resource_usage.samples).toBeGreaterThan(0)
      const short = await setting.client.run({ command: ['true'] })
      expect(short.resource_usage).toBeNull()
    })
  })

  describe('failure causes', () => {
    it('tells a timeout, and kills', async () => {
      const run = await setting.client.run({
        command: sh('echo begun; sleep 600'),
        resource_limits: { timeout_seconds: 1 },
      })
      expect(run).toMatchObject({ status: 'timeout', exit_code: 137, failure: { code: 'timeout' }, stdout: 'begun\n' })
      await setting.service.services.docker.settled()
      expect(await setting.service.engine.containers.inspect(run.container_id)).toBeUndefined()
    })

    it('tells a kill for memory', async () => {
      const run = await setting.client.run({
        command: sh('x=a; while :; do x=$x$x; done'),
        resource_limits: { memory_mb: 32 },
      })
      expect(run).toMatchObject({ status: 'failed', exit_code: 137, failure: { code: 'oom_killed' } })
    })

    it('tells a kill by somebody else from one for memory', async () => {
      const { body } = await setting.client.post(
        '/containers/tool/execute',
        toolRequest({ command: ['sleep', '600'], wait: false }),
      )
      const path = `/containers/tool/${body.execution_id}`
      await expect.poll(async () => (await setting.client.get(path)).body.status, { timeout: 10_000 }).toBe('running')
      await setting.service.engine.containers.kill((await setting.client.get(path)).body.container_id)
      await expect.poll(async () => (await setting.client.get(path)).body.status, { timeout: 10_000 }).toBe('failed')
      expect((await setting.client.get(path)).body).toMatchObject({ exit_code: 137, failure: { code: 'killed' } })
    })

    it('tells a missing command from a failing one', async () => {
      expect(await setting.plain.run({ command: ['/no/such/program'] })).toMatchObject({
        status: 'failed',
        exit_code: 127,
        failure: { code: 'start_failed' },
      })
      expect(await setting.plain.run({ command: ['/etc'] })).toMatchObject({
        status: 'failed',
        exit_code: 126,
        failure: { code: 'start_failed' },
      })
      expect(await setting.client.run({ command: ['false'] })).toMatchObject({
        status: 'failed',
        exit_code: 1,
        failure: { code: 'nonzero_exit' },
      })
    })

    it('tells an image that cannot be pulled', async () => {
      const run = await setting.plain.run({ image: UNREACHABLE, command: ['true'] })
      expect(run).toMatchObject({
        status: 'failed',
        exit_code: null,
        failure: { code: 'pull_failed' },
        container_id: null,
      })
      expect(run.failure.message).toContain(UNREACHABLE)
    })

    it('tells a container that was removed behind its back as lost', async () => {
      const { body } = await setting.client.post(
        '/containers/tool/execute',
        toolRequest({ command: ['sleep', '600'], wait: false }),
      )
      const path = `/containers/tool/${body.execution_id}`
      await expect.poll(async () => (await setting.client.get(path)).body.status, { timeout: 10_000 }).toBe('running')
      await setting.service.engine.containers.remove((await setting.client.get(path)).body.container_id)
      await expect
        .poll(async () => (await setting.client.get(path)).body.failure?.code, { timeout: 10_000 })
        .toBe('lost')
    })
  })

  describe('POST /containers/tool/{id}/cancel', () => {
    it('kills a run and answers it cancelled; a second one is a conflict', async () => {
      const { body } = await setting.client.post(
        '/containers/tool/execute',
        toolRequest({ command: sh('echo up; sleep 600'), wait: false }),
      )
      const path = `/containers/tool/${body.execution_id}`
      await expect.poll(async () => (await setting.client.get(path)).body.stdout, { timeout: 10_000 }).toBe('up\n')
      const cancelled = await setting.client.post(`${path}/cancel`)
      expect(cancelled.status).toBe(200)
      expect(cancelled.body).toMatchObject({ status: 'cancelled', failure: { code: 'cancelled' }, stdout: 'up\n' })
      const again = await setting.client.post(`${path}/cancel`)
      expect(again.status).toBe(409)
      expect(again.body.code).toBe('conflict')
    })
  })
}
