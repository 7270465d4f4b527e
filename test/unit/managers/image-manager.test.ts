/** Images that are missing: when they are pulled, when not, and who hears of it. */
import { setImmediate as turn } from 'node:timers/promises'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { MemoryEngine } from '../../../src/engine/memory/memory-engine.ts'
import { ImageCache } from '../../../src/managers/image-cache.ts'
import { ImageManager } from '../../../src/managers/image-manager.ts'

const unheard = vi.fn()

beforeEach(() => {
  unheard.mockClear()
  // What nobody hears of ends the service.
  process.on('unhandledRejection', unheard)
})
afterEach(() => {
  process.off('unhandledRejection', unheard)
})

function managed() {
  const engine = new MemoryEngine()
  const pull = vi.spyOn(engine.images, 'pull')
  const images = new ImageManager({
    engine,
    instance: '01990000-0000-7000-8000-000000000000',
    allowedImages: ['*'],
    allowBuild: false,
    build: { timeoutSeconds: 1, memoryBytes: 1, cpus: 1, network: 'none' },
    cache: new ImageCache({ engine, log: pino({ level: 'silent' }) }),
    log: pino({ level: 'silent' }),
  })
  return { engine, images, pull }
}

it('begins no pull for a caller that has gone, and lets no failure go unheard', async () => {
  const { images, pull } = managed()
  const caller = new AbortController()
  const resolving = images.resolve({ image: 'no/such:image' }, { session: 's', owner: null }, caller.signal)
  caller.abort(new Error('gone'))
  await expect(resolving).rejects.toThrow('gone')
  await turn()
  expect(pull).not.toHaveBeenCalled()
  expect(unheard).not.toHaveBeenCalled()
})

it('goes on with a pull whose caller leaves, and hears its failure', async () => {
  const { images, pull } = managed()
  const caller = new AbortController()
  let fail = (_: Error) => {}
  pull.mockReturnValue(
    new Promise((_, reject) => {
      fail = reject
    }),
  )
  const leaving = images.resolve({ image: 'no/such:image' }, { session: 's', owner: null }, caller.signal)
  const staying = images.resolve(
    { image: 'no/such:image' },
    { session: 's', owner: null },
    new AbortController().signal,
  )
  await vi.waitFor(() => expect(pull).toHaveBeenCalledOnce())
  caller.abort(new Error('gone'))
  await expect(leaving).rejects.toThrow('gone')
  fail(new Error('no registry'))
  await expect(staying).rejects.toThrow('no registry')
  await turn()
  expect(unheard).not.toHaveBeenCalled()
})

describe('an image of the service’s own names', () => {
  const gone = {
    code: 'image_not_found',
    details: { hint: expect.stringContaining('npm start') },
  }

  it.each([
    'container-orchestrator/toolbox:2',
    'docker.io/container-orchestrator/egress',
    'index.docker.io/container-orchestrator/toolbox@sha256:aa',
  ])('is not pulled: %s', async (image) => {
    const { images, pull } = managed()
    const resolving = images.resolve({ image }, { session: 's', owner: null }, new AbortController().signal)
    await expect(resolving).rejects.toMatchObject(gone)
    expect(pull).not.toHaveBeenCalled()
  })

  it.each([
    'FROM container-orchestrator/toolbox:2',
    'FROM scratch\nCOPY --from=index.docker.io/container-orchestrator/egress:1 / /',
  ])('is no base that the engine would pull: %j', async (dockerfile) => {
    const { engine, images } = managed()
    const build = vi.spyOn(engine.images, 'build')
    const resolving = images.resolve({ dockerfile }, { session: 's', owner: null }, new AbortController().signal)
    await expect(resolving).rejects.toMatchObject(gone)
    expect(build).not.toHaveBeenCalled()
  })
})
