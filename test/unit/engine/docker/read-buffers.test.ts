import { expect, it, vi } from 'vitest'
import { demultiplex } from '../../../../src/engine/docker/demux.ts'
import { ReadBuffers } from '../../../../src/engine/docker/read-buffers.ts'

const MIB = 1024 ** 2

it('are collected once in a MiB of them', () => {
  const collect = vi.fn()
  const buffers = new ReadBuffers(collect)
  for (let read = 0; read < 15; read++) buffers.read(64 * 1024)
  expect(collect).not.toHaveBeenCalled()
  for (let read = 0; read < 33; read++) buffers.read(64 * 1024)
  expect(collect).toHaveBeenCalledTimes(3)
})

it('take little memory of a flood, however much passes', async () => {
  const before = process.memoryUsage().arrayBuffers
  let most = 0
  let bytes = 0
  for await (const chunk of demultiplex(flood(2_000))) {
    bytes += chunk.bytes.length
    most = Math.max(most, process.memoryUsage().arrayBuffers)
  }
  expect(bytes).toBe(2_000 * (64 * 1024 - 8))
  expect((most - before) / MIB).toBeLessThan(6)
})

/** Reads of a connection, each a frame in memory of its own. */
async function* flood(reads: number): AsyncGenerator<Buffer> {
  for (let read = 0; read < reads; read++) {
    const frame = Buffer.alloc(64 * 1024)
    frame.writeUInt8(1)
    frame.writeUInt32BE(frame.length - 8, 4)
    yield frame
  }
}
