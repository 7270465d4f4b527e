/** The way from this host into the network of a container, where the service may take it. */
import { type ChildProcessWithoutNullStreams, execFile, spawn } from 'node:child_process'
import { constants } from 'node:fs/promises'
import { Duplex } from 'node:stream'
import { promisify } from 'node:util'
import { messageOf } from '../errors.ts'
import { mayUse } from './host-access.ts'
import type { Log } from './log.ts'
import type { Toolbox } from './toolbox.ts'

/** So many connections are carried by processes of this host at once; what comes beyond is carried in containers. */
const MOST_AT_ONCE = 256
/** For the one program that shows whether this process may enter a namespace. */
const TRIAL_MS = 5_000

/**
 * Runs programs of the toolbox in the network namespace of a container, as processes of this host, where
 * an exec costs the engine several times as long. Whether it may is tried once: it takes root on the engine's
 * host, and a service in a container of its own has no way to the namespaces.
 */
export class NamespaceEntry {
  readonly #toolbox: Pick<Toolbox, 'programOnHost'>
  readonly #log: Log
  #trial: Promise<boolean> | undefined
  #underWay = 0

  constructor(options: { toolbox: Pick<Toolbox, 'programOnHost'>; log: Log }) {
    this.#toolbox = options.toolbox
    this.#log = options.log
  }

  /**
   * Starts what `command` makes of the path of busybox, with its stdin and stdout as a stream; undefined where the
   * namespace, a path of the engine's host, cannot be entered from here.
   */
  async run(
    namespace: string,
    command: (busybox: string) => readonly string[],
    signal: AbortSignal,
  ): Promise<Duplex | undefined> {
    if (this.#underWay >= MOST_AT_ONCE) return undefined
    this.#underWay += 1
    const child = await this.#start(namespace, command).catch(() => undefined)
    if (child === undefined) {
      this.#underWay -= 1
      signal.throwIfAborted()
      return undefined
    }
    child.once('exit', () => {
      this.#underWay -= 1
    })
    if (signal.aborted) killGroup(child)
    signal.throwIfAborted()
    return streamOf(child, signal)
  }

  /** Undefined where the namespace is not there or not to be entered, or this host cannot start a process now. */
  async #start(
    namespace: string,
    command: (busybox: string) => readonly string[],
  ): Promise<ChildProcessWithoutNullStreams | undefined> {
    if (!(await mayUse(namespace, constants.R_OK))) return undefined
    const busybox = await this.#toolbox.programOnHost()
    if (busybox === undefined || !(await this.#mayEnter(namespace, busybox))) return undefined
    const args = ['nsenter', `-n${namespace}`, ...command(busybox)]
    // A group of its own, which ends as one: a shell that tries again has processes of its own.
    const child = spawn(busybox, args, { cwd: '/', env: {}, stdio: 'pipe', detached: true })
    child.on('error', (error) => {
      this.#log.debug({ event: 'namespaces.not_started', why: error.message }, 'a process of this host did not start')
    })
    if (child.pid === undefined) return undefined
    child.stderr.resume()
    return child
  }

  #mayEnter(namespace: string, busybox: string): Promise<boolean> {
    this.#trial ??= this.#try(namespace, busybox)
    return this.#trial
  }

  async #try(namespace: string, busybox: string): Promise<boolean> {
    const args = ['nsenter', `-n${namespace}`, busybox, 'true']
    try {
      await promisify(execFile)(busybox, args, { cwd: '/', env: {}, timeout: TRIAL_MS })
      return true
    } catch (error) {
      const hasRefused = typeof (error as { code?: unknown }).code === 'number'
      if (!hasRefused || !(await mayUse(namespace, constants.R_OK))) {
        // It did not start or end in time, or the namespace has gone: that says nothing of the next.
        this.#trial = undefined
        return false
      }
      this.#log.info(
        { event: 'namespaces.not_entered', why: messageOf(error) },
        'connections into containers are carried by processes in these',
      )
      return false
    }
  }
}

/** Of a process that has ended another may have the id by now. */
function killGroup({ pid, exitCode, signalCode }: ChildProcessWithoutNullStreams): void {
  if (pid === undefined || exitCode !== null || signalCode !== null) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // It has ended just now.
  }
}

/**
 * Stdin and stdout of a process, which ends with the stream or the abort. The stream closes once the process has
 * ended and all that it wrote was read.
 */
function streamOf(child: ChildProcessWithoutNullStreams, signal: AbortSignal): Duplex {
  const { stdin, stdout } = child
  const abort = () => stream.destroy(signal.reason)
  const stream = new Duplex({
    read: () => void stdout.resume(),
    // What it does not read any more is lost, until the end of what it wrote tells that it has gone.
    write: (chunk, _encoding, done) => void stdin.write(chunk, () => done()),
    final: (done) => void stdin.end(() => done()),
    destroy: (error, done) => {
      signal.removeEventListener('abort', abort)
      killGroup(child)
      stdin.destroy()
      stdout.destroy()
      done(error)
    },
  })
  signal.addEventListener('abort', abort, { once: true })
  // Whoever reads is told by what is read; these keep what nobody listens for from being thrown.
  stream.on('error', () => {})
  stdin.on('error', () => {})
  stdout.on('data', (chunk) => {
    if (!stream.push(chunk)) stdout.pause()
  })
  stdout.once('end', () => stream.push(null))
  child.once('close', () => {
    if (stream.readableEnded) stream.destroy()
    else stream.once('end', () => stream.destroy())
  })
  return stream
}
