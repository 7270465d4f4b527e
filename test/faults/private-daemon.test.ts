/** The private daemon itself: what it promises to the tests that kill and freeze it. */
import { access, readdir, readFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { leastContainer } from '../fixtures/container-spec.ts'
import { TOOLBOX } from '../fixtures/images.ts'
import { PrivateDaemon } from './private-daemon.ts'

let daemon: PrivateDaemon
let engine: DockerEngine

beforeAll(async () => {
  daemon = await PrivateDaemon.create({ images: [TOOLBOX] })
  engine = await DockerEngine.open({ host: daemon.host })
})
afterAll(async () => {
  await engine?.close()
  await daemon?.dispose()
})

it('ends containers at a restart without live restore, and lets them live on with it', async () => {
  const id = await runSleep('lives')
  await daemon.kill()
  await daemon.start({ liveRestore: true })
  await engine.availability.restored(AbortSignal.timeout(10_000))
  expect((await engine.containers.inspect(id))?.status).toBe('running')

  await daemon.restart({ liveRestore: false })
  await engine.availability.restored(AbortSignal.timeout(10_000))
  expect(await engine.containers.inspect(id)).toMatchObject({ status: 'exited', oomKilled: false })
})

it('forgets over its restart which containers it has made since it was up', async () => {
  const id = await runSleep('forgotten')
  const createdAt = (await engine.containers.inspect(id))?.createdAt ?? new Date(0)
  expect(await engine.remembersMaking({ id, createdAt })).toBe(true)
  await daemon.restart({ liveRestore: true })
  await engine.availability.restored(AbortSignal.timeout(10_000))
  expect(await engine.remembersMaking({ id, createdAt })).toBe(false)
})

it('answers nothing while it is frozen, and goes on when it is thawed', async () => {
  daemon.freeze()
  await expect(engine.ping()).rejects.toThrow()
  daemon.thaw()
  await engine.ping()
})

it('leaves nothing when it is disposed of while frozen', async () => {
  const other = await PrivateDaemon.create({ images: [] })
  const folder = other.host.slice('unix://'.length, -'/docker.sock'.length)
  other.freeze()
  await other.dispose()
  await expect(access(folder)).rejects.toThrow('ENOENT')
  expect(await argumentsWith(folder)).toEqual([])
})

async function runSleep(name: string): Promise<string> {
  const id = await engine.containers.create(
    leastContainer({
      name,
      imageId: (await engine.images.inspect(TOOLBOX))?.id ?? '',
      command: ['sleep', '300'],
      network: { mode: 'bridge' },
    }),
  )
  await engine.containers.start(id)
  return id
}

/** Command lines of the machine's processes that contain a text. */
async function argumentsWith(searched: string): Promise<string[]> {
  const lines = await Promise.all(
    (await readdir('/proc'))
      .filter((name) => /^\d+$/.test(name))
      .map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
  )
  return lines.filter((line) => line.includes(searched))
}
