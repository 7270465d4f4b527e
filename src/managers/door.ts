import { connect } from 'node:net'
import { Duplex, Readable } from 'node:stream'
import type { Engine, Exec } from '../engine/engine.ts'
import { hostAddressesOn } from './host-bridge.ts'
import { BUSYBOX } from './toolbox-programs.ts'

/** A port of a running container, and the network that it is on. */
export interface DoorTarget {
  containerId: string
  networkId: string
  address: string
  gateway: string
  port: number
}

/**
 * Runs its arguments until they succeed, after pauses of 5 ms and then longer, for about 1.5 s: a `nc` that
 * is refused has read nothing of what it is to send.
 */
const PATIENT = `pause=5000
until "$0" "$@"; do
  [ $pause -gt 400000 ] && exit 1
  ${BUSYBOX} usleep $pause
  pause=$((pause * 5 / 4))
done 2>/dev/null`

/**
 * The one way into a container's port: through `nc` of the toolbox, run inside the container, since an
 * isolated network has no address of the host; straight to its address where there is one. So the service
 * never joins a session's network, and works in a container of its own or far from the engine.
 */
export class Door {
  readonly #engine: Engine

  constructor(engine: Engine) {
    this.#engine = engine
  }

  /**
   * A connection to the port; it fails as a socket does, by `error` or an early end. With `patience`, a
   * port that refuses may be tried for up to about 1.5 seconds, where a try from outside costs more.
   */
  async dial(target: DoorTarget, signal: AbortSignal, { patience = false } = {}): Promise<Duplex> {
    return isLocal(target)
      ? connect({ host: target.address, port: target.port, signal })
      : this.#throughExec(target, signal, patience)
  }

  async #throughExec({ address, containerId, port }: DoorTarget, signal: AbortSignal, patience: boolean) {
    // -w bounds the wait for a connection, and for the far end once this end has closed.
    const nc = [BUSYBOX, 'nc', '-w', '5', address, String(port)]
    const exec = await this.#engine.containers.exec(containerId, {
      command: patience ? [BUSYBOX, 'sh', '-c', PATIENT, ...nc] : nc,
      stdin: true,
      signal,
    })
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
