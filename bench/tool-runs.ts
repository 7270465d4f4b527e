/** Tool runs of the service, each as a whole HTTP call. */
import { setTimeout as sleep } from 'node:timers/promises'
import { type BareEngine, GREETING, TOOLBOX } from './bare-engine.ts'
import { timedStart } from './in-turn.ts'
import type { BenchService } from './service.ts'

export interface Run {
  execution_id: string
  container_id: string
  warm: boolean
  stdout: string
  stdout_bytes: number
  status: string
}

const POLL_MS = 10

/** One run that says hello; throws where it does not. */
export async function greet(service: BenchService, session = 'bench'): Promise<Run> {
  const run = await service.post<Run>('/containers/tool/execute', greeting(session))
  if (run.stdout !== 'hello\n') throw new Error(`the run answered ${JSON.stringify(run)}`)
  return run
}

export function greeting(session: string) {
  return { tool_name: 'bench', session_id: session, image: TOOLBOX, command: GREETING }
}

/** A contender of runs, which waits behind each until its container is gone. */
export function greeter(service: BenchService, engine: BareEngine) {
  return timedStart({ start: () => greet(service), end: (run) => gone(engine, [run]) })
}

/** Resolves when the containers of runs are gone. */
export async function gone(engine: BareEngine, runs: readonly Run[]): Promise<void> {
  for (const { container_id } of runs) await engine.gone(container_id)
}

/** Does some work so many times, at most so many at once. */
export async function atOnce<T>(count: number, concurrency: number, work: (index: number) => Promise<T>): Promise<T[]> {
  const results: T[] = []
  let next = 0
  const worker = async () => {
    while (next < count) results.push(await work(next++))
  }
  await Promise.all(Array.from({ length: Math.min(count, concurrency) }, worker))
  return results
}

/** Looks again and again until it finds something; undefined where that takes too long. */
export async function until<T>(look: () => Promise<T | undefined>, withinMs: number): Promise<T | undefined> {
  for (const began = performance.now(); performance.now() - began < withinMs; await sleep(POLL_MS)) {
    const found = await look()
    if (found !== undefined) return found
  }
  return undefined
}
