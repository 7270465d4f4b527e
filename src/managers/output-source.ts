/** Where the output of a container that an earlier process started comes from: the spool, then the engine's log. */
import type { Containers, OutputChunk, OutputStream } from '../engine/engine.ts'
import type { Spools } from '../store/spools.ts'

/** The output that a spool already has. */
export async function* spooledOutput(spools: Spools, id: string): AsyncGenerator<OutputChunk> {
  for await (const record of spools.read(id)) {
    if (record.kind !== 'stdout' && record.kind !== 'stderr') continue
    yield { stream: record.kind, bytes: Buffer.from(record.text) }
  }
}

/** The engine's log of a container, followed, from behind the bytes of each stream that are known. */
export async function* outputAfter(
  containers: Containers,
  containerId: string,
  known: Readonly<Record<OutputStream, number>>,
  signal: AbortSignal,
): AsyncGenerator<OutputChunk> {
  const skip = { ...known }
  for await (const chunk of containers.logs(containerId, { follow: true, signal })) {
    const seen = Math.min(skip[chunk.stream], chunk.bytes.length)
    skip[chunk.stream] -= seen
    if (seen < chunk.bytes.length) yield { stream: chunk.stream, bytes: chunk.bytes.subarray(seen) }
  }
}
