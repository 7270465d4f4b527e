/** The service as a process of its own, on one data folder, that can be killed and started again. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../fixtures/free-port.ts'

const ROOT = new URL('../..', import.meta.url).pathname
const READY_TRIES = 600
const READY_PAUSE_MS = 50

export class KillableService {
  readonly url: string
  readonly #environment: Record<string, string>
  #process: ChildProcess | undefined
  /** Log lines of all its lives. */
  log = ''

  private constructor(port: number, environment: Record<string, string>) {
    this.url = `http://127.0.0.1:${port}`
    this.#environment = { ...environment, CO_PORT: String(port) }
  }

  static async create(environment: Record<string, string>): Promise<KillableService> {
    return new KillableService(await freePort(), environment)
  }

  /** Starts it; answers after how many milliseconds it was ready. */
  async start(): Promise<number> {
    const began = performance.now()
    const child = this.#spawn([], {})
    for (let tries = 0; tries < READY_TRIES; tries++) {
      if (child.exitCode !== null)
        throw new Error(`the service ended with ${child.exitCode}:\n${this.log.slice(-2_000)}`)
      const answer = await fetch(`${this.url}/readyz`).catch(() => undefined)
      if (answer?.status === 200) return performance.now() - began
      await sleep(READY_PAUSE_MS)
    }
    throw new Error(`the service did not get ready:\n${this.log.slice(-2_000)}`)
  }

  /** Starts it with a point at which it ends itself; true where it did before the signal aborted, which ends it too. */
  async startUntilDeath(environment: Record<string, string>, signal: AbortSignal): Promise<boolean> {
    const child = this.#spawn(['--import', './test/faults/failpoint-preload.ts'], environment)
    const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>
    let timedOut = false
    const abort = () => {
      timedOut = true
      child.kill('SIGKILL')
    }
    signal.addEventListener('abort', abort, { once: true })
    const [code, ended] = await exited
    signal.removeEventListener('abort', abort)
    if (ended !== 'SIGKILL') throw new Error(`the service ended with ${code}:\n${this.log.slice(-2_000)}`)
    return !timedOut
  }

  #spawn(options: readonly string[], environment: Record<string, string>): ChildProcess {
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', ...options, 'src/main.ts'], {
      cwd: ROOT,
      // CO_TEST_LOG is for the tests: the service knows no such setting.
      env: { ...process.env, CO_TEST_LOG: '', ...this.#environment, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#process = child
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (part: Buffer) => {
        this.log += part.toString()
      })
    return child
  }

  /** Ends the process at once, as a crash does. */
  async kill(): Promise<void> {
    const child = this.#process
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  }
}
