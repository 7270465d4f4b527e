/** The service dies, without draining, in the middle of a hand-off: the run is taken over or begun anew, once. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import type { Failpoint } from '../../src/failpoints.ts'
import { ownedBy } from '../../src/labels.ts'
import { sh } from '../fixtures/client.ts'
import { newSession } from '../fixtures/sessions.ts'
import { WarmClient } from '../fixtures/warm-client.ts'
import { type Installation, install, uninstall } from './installation.ts'
import { BEGUN, Witness } from './witness.ts'

const REACHED_WITHIN_MS = 40_000

let engine: DockerEngine
let installation: Installation
let witness: Witness

beforeAll(async () => {
  engine = await DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' })
  installation = await install({ CO_SESSION_SUBNETS: '10.199.0.0/16' })
  witness = await Witness.of(engine, installation.instance)
})
afterAll(async () => {
  await witness?.end()
  if (installation !== undefined) await uninstall(installation, engine)
  await engine?.close()
})

const parked = async () =>
  (await engine.containers.list(ownedBy(installation.instance, 'pool'))).map(({ id }) => id).toSorted()

/** Begins a service that dies at a point of the hand-off of this run. */
async function dieAt(point: Failpoint, request: Record<string, unknown>): Promise<void> {
  const { service } = installation
  await service.kill()
  const died = service.startUntilDeath(
    { FAULTS_POINT: point, FAULTS_POINT_PASSING: '1' },
    AbortSignal.timeout(REACHED_WITHIN_MS),
  )
  const isReady = async () => (await fetch(`${service.url}/readyz`).catch(() => undefined))?.ok
  await expect.poll(isReady, { timeout: REACHED_WITHIN_MS }).toBe(true)
  const client = new WarmClient(service.url)
  // Two that wait: one for the run, and one that nobody will take.
  await client.prime({ labels: { nobody: 'asks for it' } })
  await client.prime(request)
  // The answer may come before its end, or never.
  const asked = client.run({ ...request, wait: false }).catch(() => {})
  expect(await died, 'it came by the point').toBe(true)
  await asked
}

const lines = Array.from({ length: 12 }, (_, line) => `line ${line}\n`).join('')
const script = `${BEGUN}; i=0; while [ $i -lt 12 ]; do echo line $i; i=$((i+1)); sleep 0.5; done; cat`

it.each<[Failpoint, boolean]>([
  ['pool.taken', false],
  ['pool.fitted_out', false],
  ['pool.handed_over', true],
])('at %s', async (point, isAdopted) => {
  const session_id = newSession('crash')
  await dieAt(point, { tool_name: 'crashing', session_id, command: sh(script), stdin: 'the end\n' })
  const before = await parked()
  expect(before).toHaveLength(2)
  const { client, service } = installation
  await service.start()
  const [{ execution_id }] = await client.all(`/containers/tool?session_id=${session_id}&tool_name=crashing`)
  if (isAdopted) {
    const { container_id } = (await client.get(`/containers/tool/${execution_id}`)).body
    const name = async () => (await engine.containers.inspect(container_id))?.name
    await expect.poll(name).toMatch(/^tool_crashing_crash-.*_[0-9a-f]{8}$/)
  }
  const run = await client.ended(execution_id)
  expect(run).toMatchObject({ status: 'completed', exit_code: 0, failure: null, stdout: `${lines}the end\n` })
  expect(run.warm).toBe(isAdopted)
  expect(before.includes(run.container_id)).toBe(isAdopted)
  expect((await client.get(`/containers/tool/${execution_id}/logs?stream=stdout`)).text).toBe(run.stdout)
  expect(witness.began(execution_id)).toBe(1)
  // What waited for nobody went at the start, and what served the run goes with it.
  await expect.poll(async () => (await parked()).filter((id) => before.includes(id))).toEqual([])
})
