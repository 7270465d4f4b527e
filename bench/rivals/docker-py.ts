/** docker-py, Debian's python3-docker, in a process that stays: its start is not counted. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { engineAddress } from '../../scripts/engine-client.ts'
import { GREETING, TOOLBOX } from '../bare-engine.ts'
import { type Bench, labelsOf } from '../bench.ts'

/** Where Debian's packages are, whatever other Python is on the path. */
const PYTHON = '/usr/bin/python3'

interface Answer {
  result?: unknown
  error?: string
  ms: number
}

/** Where it cannot be had, why not. */
export async function openDockerPy(signal: AbortSignal): Promise<DockerPy | { absent: string }> {
  try {
    return await DockerPy.open(signal)
  } catch (error) {
    signal.throwIfAborted()
    return { absent: `docker-py (python3-docker) cannot be used: ${lastLine((error as Error).message)}` }
  }
}

export class DockerPy implements AsyncDisposable {
  readonly #process
  readonly #answers
  readonly #errors: Promise<string>
  version = ''

  private constructor(signal: AbortSignal) {
    this.#process = spawn(PYTHON, [join(import.meta.dirname, 'docker_py.py')], {
      env: { ...process.env, DOCKER_HOST: engineAddress().host },
      signal,
    })
    this.#process.on('error', () => {})
    this.#process.stdin.on('error', () => {})
    this.#errors = text(this.#process.stderr)
    this.#answers = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]()
  }

  static async open(signal: AbortSignal): Promise<DockerPy> {
    const dockerPy = new DockerPy(signal)
    dockerPy.version = String((await dockerPy.#ask('version')).result)
    return dockerPy
  }

  /** Milliseconds for run, wait, logs, remove of one container that says hello. */
  async run(bench: Bench): Promise<number> {
    const { ms, result } = await this.#ask('run', TOOLBOX, GREETING, labelsOf(bench))
    if (result !== 'hello\n') throw new Error(`docker-py wrote ${JSON.stringify(result)}`)
    return ms
  }

  /** Milliseconds for the stats of containers, one by one. */
  async stats(ids: readonly string[]): Promise<number> {
    return (await this.#ask('stats', ids)).ms
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null || this.#process.pid === undefined) return
    const exited = once(this.#process, 'exit')
    this.#process.stdin.end()
    await exited
  }

  async #ask(name: string, ...args: unknown[]): Promise<Answer> {
    this.#process.stdin.write(`${JSON.stringify([name, args])}\n`)
    const { value, done } = await this.#answers.next()
    if (done) throw new Error((await this.#errors) || `${PYTHON} cannot be started`)
    const answer = JSON.parse(value) as Answer
    if (answer.error !== undefined) throw new Error(answer.error)
    return answer
  }
}

function lastLine(message: string): string {
  return message.trim().split('\n').at(-1) ?? ''
}
