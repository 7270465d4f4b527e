/** One launch of a worker's container: started, given its private files, and waited for until it is ready. */
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { StartWorker } from '../domain/worker-spec.ts'
import type { Engine } from '../engine/engine.ts'
import type { SpoolWriter } from '../store/spool-writer.ts'
import { ContainerProcess } from './container-process.ts'
import type { Log } from './log.ts'
import { runBriefly } from './worker-command.ts'
import { WorkerEnded, WorkerOverdue } from './worker-problem.ts'

export interface LaunchOptions {
  engine: Engine
  log: Log
  containerId: string
  spool: SpoolWriter
  privateTar: Readable
  /** The service lets go of the container. */
  detach: AbortSignal
  /** The process before, where there was one. */
  former?: ContainerProcess | undefined
}

const RUNNING_SECONDS = 30
/** A process that cannot do its work ends within moments; on a busy machine they are as much longer as its start was. */
const SETTLE_MS = 250
const USUAL_START_MS = 400
const READY_FIRST_PAUSE_MS = 100
const READY_LONGEST_PAUSE_MS = 1_000
/** Less time than this no command gets anywhere in. */
const SHORTEST_TRY_MS = 150

/** Starts the container; `WorkerOverdue` where it does not run within so many seconds. */
export async function launch(options: LaunchOptions, withinSeconds = RUNNING_SECONDS): Promise<ContainerProcess> {
  const { privateTar, ...process } = options
  const starting = ContainerProcess.start({ ...process, stdin: privateTar })
  const patience = new AbortController()
  const overdue = sleep(withinSeconds * 1000, undefined, { signal: patience.signal }).then(() => {
    throw new WorkerOverdue('running', withinSeconds)
  })
  // Whichever loses the race has nobody else to tell.
  overdue.catch(() => {})
  starting.catch(() => {})
  try {
    return await Promise.race([starting, overdue])
  } finally {
    patience.abort()
  }
}

/**
 * Resolves when the worker is ready: its ready command succeeded, or, without one, it kept running for
 * a moment. Rejects with `WorkerEnded`, with `WorkerOverdue`, or with the reason of an abort.
 */
export async function untilReady(
  { engine, log, containerId }: Pick<LaunchOptions, 'engine' | 'log' | 'containerId'>,
  ready: StartWorker['ready'],
  process: ContainerProcess,
  { signal, startMs = 0 }: { signal: AbortSignal; startMs?: number },
): Promise<void> {
  const over = new AbortController()
  const phase = ready === undefined ? 'running' : 'ready'
  void process.exit.then(
    (state) => over.abort(new WorkerEnded(phase, state)),
    () => {},
  )
  const limited = AbortSignal.any([signal, over.signal])
  if (ready === undefined) {
    const settleMs = SETTLE_MS + Math.max(0, startMs - USUAL_START_MS)
    await sleep(settleMs, undefined, { signal: limited }).catch(() => limited.throwIfAborted())
    // The news of an end may lag behind it.
    const state = await engine.containers.inspect(containerId)
    if (state?.status !== 'running') throw new WorkerEnded(phase, await process.exit)
    return
  }
  const until = performance.now() + ready.timeout_seconds * 1000
  let last: { exitCode: number | null; line: string } = { exitCode: null, line: '' }
  for (let pause = READY_FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, READY_LONGEST_PAUSE_MS)) {
    limited.throwIfAborted()
    const left = Math.max(1, Math.ceil(until - performance.now()))
    const tried = await runBriefly({ engine, log }, containerId, { command: ready.command }, left, {
      signal: limited,
    }).catch(async (error: unknown) => {
      // A container that ended a moment ago refuses commands: its end says more than the refusal.
      await Promise.race([process.exit.catch(() => {}), sleep(SETTLE_MS)])
      limited.throwIfAborted()
      throw error
    })
    if (tried.exitCode === 0) return
    // One that was cut off by the end of the time says less than the one before it.
    if (!tried.timedOut) last = { exitCode: tried.exitCode, line: lastLine(tried) }
    if (performance.now() + pause + SHORTEST_TRY_MS >= until || tried.timedOut) {
      throw new WorkerOverdue('ready', ready.timeout_seconds, last.exitCode, last.line)
    }
    await sleep(pause, undefined, { signal: limited }).catch(() => limited.throwIfAborted())
  }
}

function lastLine({ stdout, stderr }: { stdout: string; stderr: string }): string {
  const lines = `${stdout}\n${stderr}`.trimEnd().split('\n')
  return (lines.at(-1) ?? '').slice(0, 300)
}
