import { describe, expect, it, vi } from 'vitest'
import { MemoryEngine } from '../../../src/engine/memory/memory-engine.ts'
import { type ChangeListener, tellingChanges } from '../../../src/engine/telling-changes.ts'
import { leastContainer } from '../../fixtures/container-spec.ts'
import { TOOLBOX } from '../../fixtures/images.ts'

describe('tellingChanges', () => {
  it('tells of each change before its caller knows of it, and of no question', async () => {
    const changed = vi.fn<ChangeListener>()
    const engine = tellingChanges(new MemoryEngine(), changed)
    const told = () => changed.mock.calls.splice(0)
    await engine.connect()
    const imageId = (await engine.images.inspect(TOOLBOX))?.id ?? ''
    const spec = leastContainer({ name: 'c', imageId, command: ['sleep', '600'] })

    const id = await engine.containers.create(spec)
    expect(told()).toEqual([['create', undefined]])
    for (const change of ['start', 'pause', 'resume', 'kill', 'remove'] as const) {
      await engine.containers[change](id)
      expect(told()).toEqual([[change, id]])
    }
    expect(await engine.containers.inspect(id)).toBeUndefined()
    expect(await engine.containers.list({})).toEqual([])
    expect(await engine.containers.sample(id)).toBeUndefined()
    expect(told()).toEqual([])
  })

  it('tells of a call that failed, which may have changed something', async () => {
    const changed = vi.fn<ChangeListener>()
    const engine = tellingChanges(new MemoryEngine(), changed)
    const id = 'a'.repeat(64)
    await expect(engine.containers.start(id)).rejects.toMatchObject({ fault: 'not_found' })
    expect(changed).toHaveBeenCalledWith('start', id)
  })
})
