/** The way from this host into the network of a container, where the service may take it. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { access, constants } from 'node:fs/promises'
import { Duplex } from 'node:stream'
import type { Log } from './log.ts'
import type { Toolbox } from './toolbox.ts'

/** So many connections are carried by processes of this host at once; what comes beyond is carried in containers. */
const MOST_AT_ONCE = 256
/** What `nsenter` says where it may not enter comes first. */
const REFUSAL = /^nsenter: /

/**
 * Runs programs of the toolbox in the network namespace of a container, as processes of this host: a tenth of
 * the time of an exec. Takes root on the engine's host; the service in a container of its own has no
 * way to the namespaces.
 */
export class NamespaceEntry {
  readonly #toolbox: Pick<Toolbox, 'programOnHost'>
  readonly #log: Log
  #isRefused = false
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
    if (this.#isRefused || this.#underWay >= MOST_AT_ONCE || !(await isThere(namespace))) return undefined
    const busybox = await this.#toolbox.programOnHost()
    if (busybox === undefined) return undefined
    signal.throwIfAborted()
    return this.#spawn(busybox, ['nsenter', `-n${namespace}`, ...command(busybox)], signal)
  }

  #spawn(busybox: string, args: readonly string[], signal: AbortSignal): Duplex {
    const child = spawn(busybox, args, { cwd: '/', env: {}, stdio: 'pipe' })
    this.#underWay += 1
    const stream = streamOf(child)
    const abort = () => stream.destroy(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    // Whoever reads is told by what is read; this keeps what nobody listens for from being thrown.
    stream.on('error', () => {})
    child.stderr.once('data', (words: Buffer) => {
      if (REFUSAL.test(words.toString())) this.#refused(words.toString().trim())
    })
    child.once('error', (error) => {
      this.#refused(error.message)
      stream.destroy(error)
    })
    child.once('close', () => {
      this.#underWay -= 1
      signal.removeEventListener('abort', abort)
    })
    return stream
  }

  #refused(why: string): void {
    if (this.#isRefused) return
    this.#isRefused = true
    this.#log.info(
      { event: 'namespaces.not_entered', why },
      'connections into containers are carried by processes in these',
    )
  }
}

/** Stdin and stdout of a process, which ends with the stream: all that it wrote is read before the end, however it ended. */
function streamOf(child: ChildProcessWithoutNullStreams): Duplex {
  const { stdin, stdout } = child
  const stream = new Duplex({
    read: () => void stdout.resume(),
    // What it does not read any more is lost, as with any far end that has gone.
    write: (chunk, _encoding, done) => void stdin.write(chunk, () => done()),
    final: (done) => void stdin.end(() => done()),
    destroy: (error, done) => {
      child.kill('SIGKILL')
      done(error)
    },
  })
  stdin.on('error', () => {})
  stdout.on('data', (chunk) => {
    if (!stream.push(chunk)) stdout.pause()
  })
  stdout.once('end', () => stream.push(null))
  return stream
}

async function isThere(namespace: string): Promise<boolean> {
  return access(namespace, constants.R_OK).then(
    () => true,
    () => false,
  )
}
