import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Client } from '../fixtures/client.ts'
import { DEBIAN, TOOLBOX } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

const TIMEOUT_SECONDS = 12
const MEMORY_MB = 48

let folder: string
let service: TestService
let client: Client

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'co-build-'))
  const CO_CONFIG = join(folder, 'config.yaml')
  await writeFile(
    CO_CONFIG,
    `build: { memory_mb: ${MEMORY_MB}, cpu_limit: 0.5, timeout_seconds: ${TIMEOUT_SECONDS}, max_image_mb: 50 }
profiles: { imported: { extends: strict, build: false, images: [container-orchestrator/*] } }
`,
  )
  service = await startService({ environment: { CO_CONFIG } })
  client = new Client(service.url)
})
afterAll(async () => {
  await service.destroy()
  await rm(folder, { recursive: true })
})

const build = (dockerfile: string, more: object = {}) =>
  client.run({ session_id: newSession(), dockerfile, command: ['sh', '-c', 'cat /seen'], ...more })

/** Containers of build steps, which have the labels of what was built before them. */
async function steps(mark: string): Promise<number> {
  return (await service.engine.containers.list({ mark })).length
}

describe('a build from a request', () => {
  it('runs its steps without a network, in bounded memory and on bounded cores', async () => {
    const cgroup = '/sys/fs/cgroup'
    const run = await build(`FROM ${TOOLBOX}
RUN (ls /sys/class/net; cat ${cgroup}/memory/memory.limit_in_bytes ${cgroup}/memory.max 2>/dev/null; \\
     cat ${cgroup}/cpu/cpu.cfs_quota_us ${cgroup}/cpu.max 2>/dev/null) >/seen || true
`)
    expect(run.stdout.trim().split(/\s+/).slice(0, 3)).toEqual(['lo', String(MEMORY_MB * 1024 ** 2), '50000'])
  })

  it('ends at its time, and its step with it', async () => {
    const mark = newSession()
    const ended = build(`FROM ${TOOLBOX}\nLABEL mark=${mark}\nRUN sleep 300\n`)
    await expect.poll(() => steps(mark), { timeout: 10_000 }).toBe(1)
    expect(await ended).toMatchObject({
      status: 'failed',
      failure: { code: 'build_failed', message: `The build took longer than ${TIMEOUT_SECONDS} seconds` },
    })
    await expect.poll(() => steps(mark), { timeout: 20_000 }).toBe(0)
  })

  it('that forks without end ends too, while others run', async () => {
    const mark = newSession()
    const bomb = build(`FROM ${TOOLBOX}\nLABEL mark=${mark}\nRUN f() { sleep 60 & f & f; }; f; wait\n`)
    const peer = await client.run({ image: TOOLBOX, session_id: newSession(), command: ['echo', 'here'] })
    expect(peer.stdout).toBe('here\n')
    expect(await bomb).toMatchObject({ status: 'failed', failure: { code: 'build_failed' } })
    // Hundreds of processes, on half a core and out of memory, take their time to be killed.
    await expect.poll(() => steps(mark), { timeout: 240_000 }).toBe(0)
  })

  it('gives no image that is larger than the operator allows', async () => {
    const run = await build(`FROM ${DEBIAN}\nENV LARGE=${newSession()}\n`)
    expect(run).toMatchObject({
      status: 'failed',
      failure: { code: 'build_failed', message: expect.stringMatching(/MB; builds may have 50$/) },
    })
  })

  it('is refused where the profile has none, and images beyond the profile too', async () => {
    const ask = (fields: object) =>
      client.post('/containers/tool/execute', { tool_name: 't', session_id: 's', profile: 'imported', ...fields })
    const [built, foreign] = [await ask({ dockerfile: `FROM ${TOOLBOX}` }), await ask({ image: DEBIAN })]
    expect([built.status, built.body.code, built.body.rule]).toEqual([403, 'policy_denied', 'build'])
    expect([foreign.status, foreign.body.code, foreign.body.rule]).toEqual([403, 'policy_denied', 'image'])
  })
})
