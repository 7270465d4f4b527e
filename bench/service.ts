/** The service as a process of its own, as `npm start` runs it, with a folder and networks of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Agent, request } from 'undici'
import { engineAddress } from '../scripts/engine-client.ts'
import type { BareEngine } from './bare-engine.ts'

const ROOT = join(import.meta.dirname, '..')
const READY_WITHIN_MS = 60_000
const STOPPED_WITHIN_MS = 20_000
const POLL_MS = 1
/** The bench's own part of the private addresses: a /20 for each start. */
const SUBNETS = 16
let starts = 0

export interface ServiceOptions {
  engine: BareEngine
  signal: AbortSignal
  environment?: Record<string, string>
  /** Made, and removed with the service, where absent. */
  dataDir?: string
  /** The program, where it is not the service's own. */
  main?: string
}

/** Starts the service; resolves when `/readyz` says that it takes work. Disposed of, it leaves nothing on engine and disk. */
export async function startService(options: ServiceOptions): Promise<BenchService> {
  const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), 'co-bench-')))
  const service = new BenchService(dataDir, options)
  try {
    await service.start()
    return service
  } catch (error) {
    await service[Symbol.asyncDispose]()
    throw error
  }
}

export class BenchService implements AsyncDisposable {
  readonly dataDir: string
  url = ''
  /** From the start of the process to the first answer that it is ready. */
  readyMs = Number.NaN
  readonly #options: ServiceOptions
  readonly #agent = new Agent({ connections: 256, bodyTimeout: 0, headersTimeout: 0 })
  #process: ChildProcess | undefined

  constructor(dataDir: string, options: ServiceOptions) {
    this.dataDir = dataDir
    this.#options = options
  }

  get pid(): number {
    if (this.#process?.pid === undefined) throw new Error('the service does not run')
    return this.#process.pid
  }

  /** Starts it on its folder, for the first time or again. */
  async start(): Promise<void> {
    const { environment, signal } = this.#options
    // Not within the folder, which is measured too.
    const logFile = `${this.dataDir}.log`
    const output = openSync(logFile, 'w')
    const began = performance.now()
    const options = startOptions()
    const main = this.#options.main ?? options.main
    const child = spawn(process.execPath, [...options.flags, main], {
      // Where no .env is.
      cwd: this.dataDir,
      env: { ...outsideEnvironment(), ...options.environment, ...this.#settings(), ...environment },
      stdio: ['ignore', output, output],
      // Ctrl-C in a terminal is for the bench alone, which stops it.
      detached: true,
    })
    closeSync(output)
    this.#process = child
    this.url = await this.#address(child, logFile)
    while (!(await this.#isReady())) {
      signal.throwIfAborted()
      if (performance.now() - began > READY_WITHIN_MS) throw new Error('the service does not get ready')
      await sleep(POLL_MS)
    }
    this.readyMs = performance.now() - began
  }

  /** Ends the process, and leaves containers and data. */
  async stop(): Promise<void> {
    const child = this.#process
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGTERM')
    const killer = setTimeout(() => child.kill('SIGKILL'), STOPPED_WITHIN_MS)
    await exited
    clearTimeout(killer)
  }

  async get<T>(path: string): Promise<T> {
    return this.#call<T>('GET', path)
  }

  async post<T>(path: string, body: object): Promise<T> {
    return this.#call<T>('POST', path, body)
  }

  /** Resident memory, in MiB. */
  async rss(): Promise<number> {
    return this.#memory('VmRSS')
  }

  /** The most resident memory since the process started, or since `forgetPeak`; in MiB. */
  async peakRss(): Promise<number> {
    return this.#memory('VmHWM')
  }

  async forgetPeak(): Promise<void> {
    await writeFile(`/proc/${this.pid}/clear_refs`, '5')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { dataDir, engine } = this.#options
    try {
      await this.stop()
      await this.#agent.close()
      const instance = await readFile(join(this.dataDir, 'instance'), 'utf8').catch(() => '')
      if (instance !== '') await engine.sweep(`container-orchestrator.instance=${instance.trim()}`)
    } catch (error) {
      // What was measured is not lost with it.
      process.stderr.write(`bench: ${(error as Error).message}\n`)
    }
    await rm(`${this.dataDir}.log`, { force: true })
    if (dataDir === undefined) await rm(this.dataDir, { recursive: true, force: true })
  }

  #settings(): Record<string, string> {
    return {
      CO_PORT: '0',
      CO_DATA_DIR: this.dataDir,
      CO_SESSION_SUBNETS: `10.197.${(starts++ % SUBNETS) * 16}.0/20`,
      CO_DRAIN_SECONDS: '0',
      DOCKER_HOST: engineAddress().host,
    }
  }

  async #address(child: ChildProcess, logFile: string): Promise<string> {
    const { signal } = this.#options
    for (const began = performance.now(); performance.now() - began < READY_WITHIN_MS; await sleep(POLL_MS)) {
      signal.throwIfAborted()
      const log = readFileSync(logFile, 'utf8')
      const found = /"event":"service.started","address":"([^"]+)"/.exec(log)
      if (found?.[1] !== undefined) return found[1]
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`the service ended before it was ready: ${log.slice(-1_000)}`)
    }
    throw new Error('the service does not get ready')
  }

  async #isReady(): Promise<boolean> {
    const answer = await request(`${this.url}/readyz`, { dispatcher: this.#agent })
    await answer.body.dump()
    return answer.statusCode === 200
  }

  async #call<T>(method: 'GET' | 'POST', path: string, body?: object): Promise<T> {
    const answer = await request(`${this.url}${path}`, {
      method,
      dispatcher: this.#agent,
      signal: this.#options.signal,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    })
    if (answer.statusCode >= 300) throw new Error(`${method} ${path}: ${answer.statusCode} ${await answer.body.text()}`)
    return (await answer.body.json()) as T
  }

  async #memory(field: 'VmRSS' | 'VmHWM'): Promise<number> {
    const status = await readFile(`/proc/${this.pid}/status`, 'utf8')
    const [, kibibytes] = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status) ?? []
    return Number(kibibytes) / 1024
  }
}

/** What `npm start` gives Node: its flags, the program, and where it keeps what it has compiled. */
function startOptions(): { flags: string[]; main: string; environment: NodeJS.ProcessEnv } {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: { start: string } }
  const words = manifest.scripts.start.split(' ')
  const node = words.indexOf('node')
  const variables = words.slice(0, node).map((word) => word.split('=') as [string, string])
  // What begins with a dot is a path in the checkout.
  const environment = Object.fromEntries(
    variables.map(([name, value]) => [name, value.startsWith('.') ? join(ROOT, value) : value]),
  )
  return { flags: words.slice(node + 1, -1), main: join(ROOT, words.at(-1) ?? ''), environment }
}

/** The environment of this process without settings of a service. */
function outsideEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('CO_')))
}
