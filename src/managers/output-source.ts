/** Where the output of a container comes from once its attachment is lost: the spool, then the engine's log. */
import type { Containers, OutputChunk, OutputStream } from '../engine/engine.ts'
import { EngineError } from '../errors.ts'
import { countsBehind, type OutputCounts } from '../store/spool-format.ts'
import type { Spools } from '../store/spools.ts'
import type { KnownOutput } from './known-output.ts'

/** For all that a container has written: at most 30 MiB. */
const LOG_DEADLINE_MS = 60_000

/** Whoever keeps output, or an account of it. */
export interface OutputTaker {
  add: (chunk: OutputChunk) => void
  /** Output that there was, and that is kept no more. */
  omit: (stream: OutputStream, bytes: number) => void
}

/** Tells the output that a spool has, and counts what it dropped. */
export async function tellSpool(spools: Spools, id: string, takers: readonly OutputTaker[]): Promise<void> {
  let counts: OutputCounts = { stdout: 0, stderr: 0 }
  for await (const record of spools.read(id)) {
    if (record.kind === 'gap') continue
    const behind = countsBehind(record, counts)
    if (record.kind === 'mark') {
      for (const stream of ['stdout', 'stderr'] as const) {
        const omitted = behind[stream] - counts[stream]
        if (omitted > 0) for (const taker of takers) taker.omit(stream, omitted)
      }
    } else if (record.kind !== 'state') {
      const chunk = { stream: record.kind, bytes: record.data }
      for (const taker of takers) taker.add(chunk)
    }
    counts = behind
  }
}

/** The engine's log of a container, followed, from behind what is known. */
export async function* outputAfter(
  containers: Containers,
  containerId: string,
  known: KnownOutput,
  signal: AbortSignal,
): AsyncGenerator<OutputChunk> {
  const searches = { stdout: known.stdout.search(), stderr: known.stderr.search() }
  const patience = AbortSignal.any([signal, AbortSignal.timeout(LOG_DEADLINE_MS)])
  for await (const { stream, bytes } of containers.logs(containerId, { follow: false, signal: patience })) {
    searches[stream].add(bytes)
  }
  if (patience.aborted) throw new EngineError('deadline', `The log of container ${containerId} was not told in time`)
  const skip = { stdout: searches.stdout.place, stderr: searches.stderr.place }
  for await (const chunk of containers.logs(containerId, { follow: true, signal })) {
    const seen = Math.min(skip[chunk.stream], chunk.bytes.length)
    skip[chunk.stream] -= seen
    if (seen < chunk.bytes.length) yield { stream: chunk.stream, bytes: chunk.bytes.subarray(seen) }
  }
}
