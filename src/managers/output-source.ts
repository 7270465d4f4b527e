/** Where the output of a container that an earlier process started comes from: the spool, then the engine's log. */
import type { Containers, OutputChunk, OutputStream } from '../engine/engine.ts'
import type { Spools } from '../store/spools.ts'

export interface KnownOutput {
  /** Bytes of each stream that the spool has. */
  bytes: Record<OutputStream, number>
  /** The spool's middle was dropped, so that its bytes tell no position in the engine's log. */
  hasGap: boolean
}

/** Tells the output that a spool already has, and how far it goes. */
export async function spooledOutput(
  spools: Spools,
  id: string,
  tell: (chunk: OutputChunk) => void = () => {},
): Promise<KnownOutput> {
  const known: KnownOutput = { bytes: { stdout: 0, stderr: 0 }, hasGap: false }
  for await (const record of spools.read(id)) {
    if (record.kind === 'gap') known.hasGap = true
    if (record.kind !== 'stdout' && record.kind !== 'stderr') continue
    known.bytes[record.kind] += record.bytes
    tell({ stream: record.kind, bytes: Buffer.from(record.text) })
  }
  return known
}

/** The engine's log of a container, followed, from behind what is known; from its end where that cannot be told. */
export async function* outputAfter(
  containers: Containers,
  containerId: string,
  known: KnownOutput,
  signal: AbortSignal,
): AsyncGenerator<OutputChunk> {
  const skip = { ...known.bytes }
  const options = { follow: true, signal, ...(known.hasGap ? { tail: 0 } : {}) }
  for await (const chunk of containers.logs(containerId, options)) {
    const seen = known.hasGap ? 0 : Math.min(skip[chunk.stream], chunk.bytes.length)
    skip[chunk.stream] -= seen
    if (seen < chunk.bytes.length) yield { stream: chunk.stream, bytes: chunk.bytes.subarray(seen) }
  }
}
