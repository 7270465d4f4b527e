import { connect } from 'node:net'
import { Duplex, Readable } from 'node:stream'
import type { Engine, Exec } from '../engine/engine.ts'
import { hostAddressesOn } from './host-bridge.ts'
import type { NamespaceEntry } from './namespace-entry.ts'
import { BUSYBOX } from './toolbox-programs.ts'

/** A port of a running container, and the network that it is on. */
export interface DoorTarget {
  containerId: string
  networkId: string
  address: string
  gateway: string
  port: number
  /** Path of its network namespace on the engine's host, where it has one. */
  namespace?: string | undefined
}

/**
 * Runs its arguments, of which the first is busybox, until they succeed, after pauses of 5 ms and then
 * longer, for about 1.5 s: a `nc` that is refused has read nothing of what it is to send.
 */
const PATIENT = `pause=5000
until "$0" "$@"; do
  [ $pause -gt 400000 ] && exit 1
  "$0" usleep $pause
  pause=$((pause * 5 / 4))
done 2>/dev/null`

/**
 * The one way into a container's port: through `nc` of the toolbox in its network, since an isolated one
 * has no address of the host; straight to its address where there is one. `nc` is a process of this
 * host where the service may enter the network, and of the container otherwise, so that the service
 * works in a container of its own or far from the engine.
 */
export class Door {
  readonly #engine: Engine
  readonly #entry: Pick<NamespaceEntry, 'run'> | undefined

  /** Without an `entry`, networks are entered by processes of containers alone. */
  constructor(engine: Engine, entry?: Pick<NamespaceEntry, 'run'>) {
    this.#engine = engine
    this.#entry = entry
  }

  /**
   * A connection to the port; it fails as a socket does, by `error` or an early end. With `patience`, a
   * port that refuses may be tried for up to about 1.5 seconds, where a try from outside costs more.
   */
  async dial(target: DoorTarget, signal: AbortSignal, { patience = false } = {}): Promise<Duplex> {
    if (isLocal(target)) return connect({ host: target.address, port: target.port, signal })
    const { address, containerId, namespace, port } = target
    const command = (busybox: string) => {
      // -w bounds the wait for a connection, and for the far end once this end has closed.
      const nc = [busybox, 'nc', '-w', '5', address, String(port)]
      return patience ? [busybox, 'sh', '-c', PATIENT, ...nc] : nc
    }
    const entered = namespace === undefined ? undefined : await this.#entry?.run(namespace, command, signal)
    return entered ?? this.#throughExec(containerId, command(BUSYBOX), signal)
  }

  async #throughExec(containerId: string, command: readonly string[], signal: AbortSignal): Promise<Duplex> {
    const exec = await this.#engine.containers.exec(containerId, { command, stdin: true, signal })
    const duplex = Duplex.from({ writable: exec.stdin, readable: Readable.from(stdoutOf(exec)) })
    duplex.once('close', () => exec.close())
    return duplex
  }
}

/** True where this machine has an address on the target's network: that network is not isolated from it. */
function isLocal({ networkId, gateway }: DoorTarget): boolean {
  return hostAddressesOn(networkId).includes(gateway)
}

async function* stdoutOf(exec: Exec): AsyncGenerator<Buffer> {
  for await (const chunk of exec.output) {
    if (chunk.stream === 'stdout') yield chunk.bytes
  }
}
