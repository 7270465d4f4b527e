import { MemoryEngine } from '../../src/engine/memory/memory-engine.ts'
import { TOOLBOX, UNREACHABLE } from '../fixtures/images.ts'
import { describeEngineContract } from './engine-contract.ts'

describeEngineContract('in memory', async () => {
  const engine = new MemoryEngine({ images: [TOOLBOX] })
  return {
    engine,
    image: TOOLBOX,
    oomCommand: ['oom'],
    unpullable: { reference: UNREACHABLE, fault: 'image_not_found' },
    close: () => engine.close(),
  }
})
