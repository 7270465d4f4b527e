import { connect } from 'node:net'
import { networkInterfaces } from 'node:os'
import { Duplex, Readable } from 'node:stream'
import type { Engine, Exec } from '../engine/engine.ts'
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
 * The one way into a container's port: straight to its address where this process shares the engine's
 * network, else through `nc` of the toolbox, run inside the container. So the service never joins a
 * session's network, and works in a container of its own or far from the engine.
 */
export class Door {
  readonly #engine: Engine

  constructor(engine: Engine) {
    this.#engine = engine
  }

  /** A connection to the port; it fails as a socket does, by `error` or an early end. */
  async dial(target: DoorTarget, signal: AbortSignal): Promise<Duplex> {
    return isLocal(target)
      ? connect({ host: target.address, port: target.port, signal })
      : this.#throughExec(target, signal)
  }

  async #throughExec(target: DoorTarget, signal: AbortSignal): Promise<Duplex> {
    const exec = await this.#engine.containers.exec(target.containerId, {
      // -w bounds the wait for a connection, and for the far end once this end has closed.
      command: [BUSYBOX, 'nc', '-w', '5', target.address, String(target.port)],
      stdin: true,
      signal,
    })
    const duplex = Duplex.from({ writable: exec.stdin, readable: Readable.from(stdoutOf(exec)) })
    duplex.once('close', () => exec.close())
    return duplex
  }
}

/**
 * True where the bridge of the target's network is an interface of this machine: its name bears the
 * network's id, so a network of another engine with the same range is not mistaken for it.
 */
function isLocal({ networkId, gateway }: DoorTarget): boolean {
  const bridge = networkInterfaces()[`br-${networkId.slice(0, 12)}`]
  return bridge?.some((entry) => entry.address === gateway) ?? false
}

async function* stdoutOf(exec: Exec): AsyncGenerator<Buffer> {
  for await (const chunk of exec.output) {
    if (chunk.stream === 'stdout') yield chunk.bytes
  }
}
