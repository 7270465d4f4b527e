import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { NetworkManager } from '../../src/managers/network-manager.ts'
import { removeAll } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

const log = { debug() {}, info() {}, warn() {}, error() {} }
const instances: string[] = []
let engine: DockerEngine

function manager(range: string): NetworkManager {
  const instance = randomUUID()
  instances.push(instance)
  return new NetworkManager({ engine, instance, range, isolation: 'inhibit_ipv4', log })
}

beforeAll(async () => {
  engine = await DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' })
})
afterAll(async () => {
  for (const instance of instances) await removeAll(engine, instance)
  await engine.close()
})

describe('session networks', () => {
  it('are made once for calls at once, internal and from their own /27', async () => {
    const networks = manager('10.195.0.0/24')
    const session = newSession()
    const made = await Promise.all(Array.from({ length: 8 }, () => networks.ensure(session)))
    expect(new Set(made.map(({ id }) => id)).size).toBe(1)
    expect(await engine.networks.inspect(made[0]?.id ?? '')).toMatchObject({
      internal: true,
      name: `session_${session}`,
    })
    expect(made[0]?.subnet).toMatch(/^10\.195\.0\.\d+\/27$/)
    expect(await networks.get(session)).toMatchObject({ id: made[0]?.id })
  })

  it('keep to what is left of a range that others use too, and say when it is used up', async () => {
    const others = manager('10.195.1.0/26')
    const networks = manager('10.195.1.0/26')
    const [first, second] = [newSession(), newSession()]
    const taken = await others.ensure(first)
    const mine = await networks.ensure(second)
    expect(mine.subnet).not.toBe(taken.subnet)
    await expect(networks.ensure(newSession())).rejects.toMatchObject({
      code: 'quota_exceeded',
      details: { hint: expect.stringContaining('CO_SESSION_SUBNETS') },
    })
    await others.remove(taken)
    expect((await networks.ensure(newSession())).subnet).toBe(taken.subnet)
  })

  it('are one for each instance, where several have a session of the same name', async () => {
    const session = newSession()
    const [mine, theirs] = [manager('10.195.2.0/24'), manager('10.195.3.0/24')]
    await mine.ensure(session)
    expect(await theirs.get(session)).toBeUndefined()
    const other = await theirs.ensure(session)
    expect(other.name).toMatch(new RegExp(`^session_${session}_[0-9a-f]{8}$`))
    expect(other.id).not.toBe((await mine.get(session))?.id)
    expect(await theirs.removeAll({ force: true, dryRun: false })).toEqual({ removed: 1, errors: [] })
    expect(await mine.get(session)).toBeDefined()
  })
})
