/**
 * The names by which containers find each other on their session's network. Each leads to one container:
 * the engine's resolver gives those that share a name turns, and so one could take the calls of another.
 */
import { AppError } from '../errors.ts'
import { egressAlias } from '../policy/egress-proxy.ts'
import type { Profiles } from '../policy/profiles.ts'

/** Who is to be found by a name on its session's network. */
export interface NameBearer {
  sessionId: string
  /** The one that the caller chose, and the container's alias. */
  name: string
  kind: 'relic' | 'worker'
  /** Path of the thing in the API; no two have the same. */
  path: string
  /** Null before it is made. */
  containerName: string | null
  containerId: string | null
}

/** Whoever keeps bearers of names, and can tell at any moment which of them run or are about to. */
export interface NameKeeper {
  namesIn(sessionId: string): readonly NameBearer[]
}

/** As `containerName` makes them. */
const CONTAINER_NAME = /^(?:tool|relic|worker|egress)_.+_[0-9a-f]{8}$/
/** The engine also answers a container's name, a dot and its network's name. */
const WITH_NETWORK = /\.(?:session|internal)_/
const SHORT_ID = 12

export class SessionNames {
  readonly #keepers: NameKeeper[] = []
  /** Those that are being started again, and do not count as running yet. */
  readonly #held = new Set<NameBearer>()
  readonly #aliases: ReadonlySet<string>
  readonly #hosts: readonly string[]

  constructor(profiles: Profiles) {
    const egress = [...profiles.values()].filter((profile) => profile.egress !== undefined)
    this.#aliases = new Set(egress.map(({ name }) => key(egressAlias(name))))
    this.#hosts = egress.flatMap((profile) => profile.egress?.hosts ?? []).map(key)
  }

  /** Asks somebody else, too, from now on. */
  count(keeper: NameKeeper): void {
    this.#keepers.push(keeper)
  }

  /** Throws `conflict` where a name leads to something else already. Counts nothing: whoever asks counts from that moment on. */
  requireFree(bearer: NameBearer): void {
    const { kind, name, path, sessionId } = bearer
    const wanted = key(name)
    if (this.#isReserved(wanted)) {
      throw new AppError(
        'conflict',
        `The name "${name}" is one of those that the service gives on a session's network`,
        {
          hint: `Choose another ${kind}'s name: none that looks like a container's, a proxy's or a host's of a profile's egress.`,
        },
      )
    }
    const bearers = [...this.#keepers.flatMap((keeper) => keeper.namesIn(sessionId)), ...this.#held]
    const twin = bearers.find(
      (other) => other.sessionId === sessionId && other.path !== path && namesOf(other).includes(wanted),
    )
    if (twin === undefined) return
    throw new AppError(
      'conflict',
      `Session "${sessionId}" has a ${twin.kind} of the name "${name}" already: ${twin.path}`,
      {
        instance: twin.path,
        hint: 'Use that one, choose another name (capitals make no difference), or stop or delete it first.',
      },
    )
  }

  /** Checks, and counts the bearer until the answered function is called. */
  hold(bearer: NameBearer): () => void {
    this.requireFree(bearer)
    const held = { ...bearer }
    this.#held.add(held)
    return () => this.#held.delete(held)
  }

  #isReserved(name: string): boolean {
    if (CONTAINER_NAME.test(name) || WITH_NETWORK.test(name) || this.#aliases.has(name)) return true
    // The proxy asks the same resolver where such a host is.
    return this.#hosts.some((host) => (host.startsWith('*.') ? `.${name}`.endsWith(host.slice(1)) : name === host))
  }
}

function namesOf({ name, containerName, containerId }: NameBearer): string[] {
  return [name, containerName ?? '', containerId?.slice(0, SHORT_ID) ?? ''].map(key)
}

/** Resolvers take no notice of capitals, nor of a dot at the end. */
function key(name: string): string {
  return name.toLowerCase().replace(/\.+$/, '')
}
