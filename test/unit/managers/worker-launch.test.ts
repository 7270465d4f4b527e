import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import type { Engine } from '../../../src/engine/engine.ts'
import { launch } from '../../../src/managers/worker-launch.ts'
import { WorkerOverdue } from '../../../src/managers/worker-problem.ts'
import type { SpoolWriter } from '../../../src/store/spool-writer.ts'
import { rejection } from '../support/streams.ts'

describe('launch', () => {
  it('tells a container that does not run in time, and which of the two waits that was', async () => {
    const containers = {
      attach: async () => ({ output: [], stdin: undefined, close: () => {} }),
      start: () => new Promise<void>(() => {}),
    }
    const launched = launch(
      {
        engine: { containers } as unknown as Engine,
        log: { info: () => {}, warn: () => {}, error: () => {}, debug: () => {} } as never,
        containerId: 'c'.repeat(64),
        spool: {} as SpoolWriter,
        privateTar: Readable.from([]),
        detach: new AbortController().signal,
      },
      0.05,
    )
    expect(await rejection(launched)).toMatchObject({ phase: 'running', seconds: 0.05 })
    await expect(launched).rejects.toBeInstanceOf(WorkerOverdue)
  })
})
