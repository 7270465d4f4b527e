/**
 * Rows 9 to 11, 15, 25 and 36, and what looks like ours: what is shown by what happens, or does not. Nobody's
 * container, network or volume goes in any cleanup, whatever it is called and labelled.
 *
 * SECURITY_LOOKUPS sets how often a name is looked up (200; 1,000 with `--full`), SECURITY_FRAMES how many
 * forged frames a tool writes (500; 5,000), SECURITY_DECOYS how many decoys stand around (60; 1,000).
 */
import { once } from 'node:events'
import { createServer } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Decoys } from '../faults/decoys.ts'
import { sh } from '../fixtures/client.ts'
import { HTTPD, TOOLBOX } from '../fixtures/images.ts'
import { newSession } from '../fixtures/sessions.ts'
import { report } from '../support/report.ts'
import { creations, Wall } from './support/wall.ts'

const LOOKUPS = Number(process.env['SECURITY_LOOKUPS'] ?? 200)
const FRAMES = Number(process.env['SECURITY_FRAMES'] ?? 500)
const DECOYS = Number(process.env['SECURITY_DECOYS'] ?? 60)

let wall: Wall
beforeAll(async () => {
  wall = await Wall.raise()
})
afterAll(async () => {
  expect(wall.breaches()).toEqual([])
  await wall.fall()
})

describe('row 9: the parent cgroup', () => {
  it("is the operator's for each container and build, whatever a caller says", async () => {
    const parent = '/co-security'
    const bounded = await Wall.raise({ CO_CGROUP_PARENT: parent }, { cgroupParent: parent })
    try {
      const request = {
        tool_name: 't',
        session_id: newSession('parent'),
        command: ['true'],
        labels: { CgroupParent: '/' },
        environment: { cgroupparent: '/' },
      }
      const build = { dockerfile: `FROM ${TOOLBOX}\nLABEL made=${newSession('parent')}\n`, files: {} }
      for (const made of [{ image: TOOLBOX }, { build }]) {
        const run = await bounded.client.post('/containers/tool/execute', { ...request, ...made })
        expect(run.body.status, run.text).toBe('completed')
      }
      const parents = creations(bounded).map(({ HostConfig }) => HostConfig['CgroupParent'])
      expect(parents.length).toBeGreaterThanOrEqual(2)
      expect(new Set(parents)).toEqual(new Set([parent]))
      const builds = bounded.socket.requests.filter(({ path }) => /^(?:\/v[\d.]+)?\/build\?/.test(path))
      expect(builds).toHaveLength(1)
      for (const { path } of builds) expect(new URLSearchParams(path.split('?')[1]).get('cgroupparent')).toBe(parent)
      expect(bounded.breaches()).toEqual([])
    } finally {
      await bounded.fall()
    }
  })
})

describe('row 11: a restart policy that outlives its owner', () => {
  // What the service itself restarts ends with the service: test/faults/sigkill.test.ts shows that.
  it('is never asked of the engine: not for tools, nor for relics and workers that are restarted', async () => {
    const session_id = newSession('restarts')
    const before = creations(wall).length
    expect((await wall.client.run({ session_id, command: ['true'] })).status).toBe('completed')
    const relic = await wall.client.post('/containers/relic/start', {
      relic_name: 'again',
      session_id,
      image: HTTPD,
      restart_policy: { max_retries: 100 },
    })
    expect(relic.status, relic.text).toBe(201)
    const worker = await wall.client.post('/containers/worker/start', {
      worker_id: newSession('again'),
      session_id,
      image: TOOLBOX,
      restart_policy: { max_retries: 100 },
    })
    expect(worker.status, worker.text).toBe(201)
    await wall.service.engine.containers.kill(relic.body.container_id)
    await expect
      .poll(async () => (await wall.client.get(`/containers/relic/${relic.body.relic_id}`)).body, { timeout: 30_000 })
      .toMatchObject({ status: 'healthy', restarts: 1 })
    const made = creations(wall).slice(before)
    expect(made.length).toBeGreaterThanOrEqual(3)
    for (const { HostConfig } of made) {
      expect(HostConfig).toMatchObject({ RestartPolicy: { Name: 'no' }, AutoRemove: false })
    }
    await wall.client.post('/containers/cleanup/session', { session_id, force: true })
  })
})

describe('row 10: a log driver that calls out', () => {
  it('is never asked for: a listener hears nothing', async () => {
    let hits = 0
    const listener = createServer((socket) => {
      hits += 1
      socket.destroy()
    }).listen(0, '127.0.0.1')
    await once(listener, 'listening')
    const { port } = listener.address() as { port: number }
    const config = { Type: 'syslog', Config: { 'syslog-address': `tcp://127.0.0.1:${port}` } }
    for (const field of ['log_config', 'LogConfig', 'logConfig', 'log_driver', 'logging']) {
      const answer = await wall.client.post('/containers/tool/execute', {
        tool_name: 't',
        session_id: 's',
        image: TOOLBOX,
        [field]: config,
      })
      expect(answer.status).toBe(400)
    }
    // As data it runs, and logs where all do.
    const run = await wall.client.run({
      session_id: newSession('log'),
      command: ['echo', 'x'],
      environment: { LogConfig: JSON.stringify(config) },
      labels: { LogConfig: JSON.stringify(config) },
    })
    expect(run.status).toBe('completed')
    expect(hits).toBe(0)
    const control = await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined)
    expect([control, hits]).toEqual([undefined, 1])
    listener.close()
  })
})

describe('row 15: the name of a relic', () => {
  it(`is its own in ${LOOKUPS} lookups, whoever takes it elsewhere`, async () => {
    const [mine, other] = [newSession('mine'), newSession('other')]
    const start = (session_id: string) =>
      wall.client.post('/containers/relic/start', { relic_name: 'db', session_id, image: HTTPD })
    const [first, second] = [await start(mine), await start(other)]
    expect([first.status, second.status]).toEqual([201, 201])
    // Another of the name in one session, by each kind that has one.
    expect((await start(mine)).status).toBe(409)
    const address = (await wall.service.engine.containers.inspect(first.body.container_id))?.networks[0]?.address
    expect(address).toMatch(/^10\./)
    const run = await wall.client.run({
      session_id: mine,
      network_mode: 'session',
      command: sh(
        `i=0; while [ $i -lt ${LOOKUPS} ]; do nslookup db 2>/dev/null | grep -A2 '^Name' | grep Address; i=$((i+1)); done | sort | uniq -c`,
      ),
      resource_limits: { timeout_seconds: 600 },
    })
    expect(run.stdout.trim().split('\n'), run.stdout + run.stderr).toHaveLength(1)
    expect(run.stdout).toContain(address)
    expect(Number(run.stdout.trim().split(/\s+/)[0])).toBe(LOOKUPS)
    for (const session_id of [mine, other])
      await wall.client.post('/containers/cleanup/session', { session_id, force: true })
    await report('Lookups of a name that another session has too (row 15)', {
      lookups: LOOKUPS,
      'answers of others': 0,
    })
  })
})

describe('row 36: bytes that look like frames', () => {
  it(`are bytes: ${FRAMES} forged frames on stdout stay on stdout`, async () => {
    // As stderr, as the engine's own error stream, longer and shorter than they say.
    const forged = [
      '\\002\\000\\000\\000\\000\\000\\000\\004evil',
      '\\003\\000\\000\\000\\377\\377\\377\\377',
      '\\001\\000\\000\\000\\000\\000\\000\\001',
      '\\002\\000\\000',
    ]
    const run = await wall.client.run({
      session_id: newSession('frames'),
      command: sh(
        `i=0; while [ $i -lt ${Math.ceil(FRAMES / forged.length)} ]; do printf '${forged.join('')}'; i=$((i+1)); done; echo err >&2`,
      ),
    })
    const each = forged.join('').replace(/\\(\d{3})/g, 'x').length
    expect(run).toMatchObject({
      status: 'completed',
      stderr: 'err\n',
      stdout_bytes: each * Math.ceil(FRAMES / forged.length),
    })
    await report('Forged frames (row 36)', {
      frames: Math.ceil(FRAMES / forged.length) * forged.length,
      'taken for frames': 0,
    })
  })
})

describe('what looks like ours', () => {
  it(`survives each cleanup: ${DECOYS} decoys`, async () => {
    const session = newSession('decoys')
    const relic = await wall.client.post('/containers/relic/start', {
      relic_name: 'web',
      session_id: session,
      image: HTTPD,
    })
    expect(relic.status, relic.text).toBe(201)
    const worker = await wall.client.post('/containers/worker/start', {
      worker_id: 'work',
      session_id: session,
      image: TOOLBOX,
    })
    expect(worker.status, worker.text).toBe(201)
    const decoys = await Decoys.make({
      engine: wall.service.engine,
      imageId: worker.body.image_id ?? (await wall.service.engine.images.inspect(TOOLBOX))?.id,
      count: DECOYS,
      names: { session, relic: 'web', worker: 'work' },
      instances: [wall.service.instance],
    })
    try {
      await wall.client.post('/containers/relic/start', { relic_name: 'web', session_id: session, image: HTTPD })
      for (const [method, path, body] of [
        ['POST', '/containers/worker/work/refresh', {}],
        ['DELETE', `/containers/relic/${relic.body.relic_id}`, undefined],
        ['DELETE', '/containers/worker/work', undefined],
        ['POST', '/containers/cleanup/session', { session_id: session, force: true }],
        ['DELETE', `/sessions/${session}`, undefined],
        ['POST', '/containers/cleanup/all-networks', { force: true }],
        ['POST', '/containers/cleanup/orphans', {}],
      ] as const) {
        const answer = await wall.client.send(method, path, body)
        expect(answer.status, `${path}: ${answer.text}`).toBeLessThan(300)
      }
      await wall.service.services.reconciler.sweep({ dryRun: false, graceMs: 0 })
      expect(await decoys.missing()).toEqual([])
      expect(await wall.service.services.docker.list({ session })).toEqual([])
    } finally {
      await decoys.remove()
    }
    await report('Decoys in every cleanup', { decoys: DECOYS, cleanups: 8, missing: 0 })
  })
})
