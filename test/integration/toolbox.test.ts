import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { DockerManager } from '../../src/managers/docker-manager.ts'
import { Toolbox } from '../../src/managers/toolbox.ts'
import { programPath } from '../../src/managers/toolbox-programs.ts'
import { removeAll } from '../fixtures/service.ts'

/** Some engines tell to the second when a volume was made. */
const ANOTHER_SECOND_MS = 1_100

const instance = randomUUID()
let engine: DockerEngine
let docker: DockerManager
let toolbox: Toolbox

beforeAll(async () => {
  engine = await DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' })
  docker = new DockerManager({ engine, instance, log: pino({ level: 'silent' }) })
  toolbox = new Toolbox({ engine, docker, instance, binary: undefined })
})
afterAll(async () => {
  await removeAll(engine, instance)
  await engine.close()
})

const alone = () => toolbox.run(programPath('loopback-alone'), { mode: 'none' }, undefined)

it('has its programs where its volume was pruned, also where the engine made it anew, empty', async () => {
  const { source } = await toolbox.mount()
  await docker.settled()
  await engine.volumes.remove(source)
  expect(await alone()).toBe(0)
  await docker.settled()
  await engine.volumes.remove(source)
  await sleep(ANOTHER_SECOND_MS)
  // As it does for a container that names one which is not there.
  await engine.volumes.create(source, {})
  expect(await alone()).toBe(0)
  await docker.settled()
  // It bears no label by which anybody else would.
  await engine.volumes.remove(source)
})
