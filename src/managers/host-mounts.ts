/**
 * Which containers of ours hold which paths of the host. An engine follows the path of a mount at each
 * start, after anyone's look at it: who can rename a folder on the way can put a link in its place. So no
 * container is given a folder in which another one holds something, nor something in a folder that
 * another one can write to. All of it is decided in one process, without a pause between look and claim.
 */
import { posix } from 'node:path'
import { AppError } from '../errors.ts'

/** A folder or file of the host in a container, by the path that the engine knows. */
export interface HeldMount {
  source: string
  target: string
  readOnly: boolean
}

interface Holding {
  /** What the owner may be given: all that it has claimed. */
  claimed: HeldMount[] | undefined
  /** What its containers have, by their ids. */
  containers: Map<string, readonly HeldMount[]>
}

export class HostMounts {
  readonly #holdings = new Map<string, Holding>()
  readonly #told: (path: string) => string

  /** `told` is how a path of the engine's is told to callers. */
  constructor(told: (path: string) => string = (path) => path) {
    this.#told = told
  }

  /**
   * Claims mounts for an owner (the id of a run, relic or worker), beside what it has claimed before, until
   * `release`; nothing is claimed where it throws. `conflict` where another owner is in the way, but for
   * one whose place this one takes (`instead`); `validation_failed` where these mounts are in each other's.
   */
  claim(owner: string, mounts: readonly HeldMount[], { instead }: { instead?: string | undefined } = {}): void {
    if (mounts.length === 0) return
    const asked = mounts.map(plain)
    this.#requireApart(asked)
    for (const [other, holding] of this.#holdings) {
      if (other === owner || other === instead) continue
      for (const held of setsOf(holding)) this.#requireNoSwap(asked, held)
    }
    const holding = this.#holding(owner)
    const former = holding.claimed ?? []
    // A worker that is refreshed claims the same each time.
    holding.claimed = [...former, ...asked.filter((mount) => !former.some((other) => isSame(mount, other)))]
  }

  /** A container has what its owner claimed, until it is `gone`, even where the owner has released it before. */
  made(owner: string, containerId: string, mounts: readonly HeldMount[]): void {
    if (mounts.length > 0) this.#holding(owner).containers.set(containerId, mounts.map(plain))
  }

  /** A container is removed, or will never run again. */
  gone(containerId: string): void {
    for (const [owner, { containers }] of this.#holdings) if (containers.delete(containerId)) this.#tidy(owner)
  }

  /** An owner makes no further container. */
  release(owner: string): void {
    const holding = this.#holdings.get(owner)
    if (holding === undefined) return
    holding.claimed = undefined
    this.#tidy(owner)
  }

  /** Ids of the containers that hold something. */
  containers(): string[] {
    return [...this.#holdings.values()].flatMap(({ containers }) => [...containers.keys()])
  }

  #holding(owner: string): Holding {
    const present = this.#holdings.get(owner)
    if (present !== undefined) return present
    const holding: Holding = { claimed: undefined, containers: new Map() }
    this.#holdings.set(owner, holding)
    return holding
  }

  #tidy(owner: string): void {
    const holding = this.#holdings.get(owner)
    if (holding?.claimed === undefined && holding?.containers.size === 0) this.#holdings.delete(owner)
  }

  #requireApart(mounts: readonly HeldMount[]): void {
    for (const { source } of mounts) {
      const outer = swapperOf(mounts, source)
      if (outer === undefined) continue
      const message = `"${this.#told(source)}" lies in "${this.#told(outer.source)}", which the container can write to`
      throw new AppError('validation_failed', `volumes: ${message}`, {
        errors: [{ path: 'volumes', message }],
        hint: 'Mount folders that lie beside each other.',
      })
    }
  }

  /** Whose container the other is, is not told: it may be another caller's. */
  #requireNoSwap(mounts: readonly HeldMount[], held: readonly HeldMount[]): void {
    const inside = mounts.find(({ source }) => swapperOf(held, source) !== undefined)
    if (inside !== undefined) {
      throw new AppError(
        'conflict',
        `Host path "${this.#told(inside.source)}" lies in a folder that another container can write to`,
        { hint: 'Mount that folder itself, or one outside of it; or remove the other container first.' },
      )
    }
    const outer = held.map(({ source }) => swapperOf(mounts, source)).find((mount) => mount !== undefined)
    if (outer === undefined) return
    throw new AppError(
      'conflict',
      `Host path "${this.#told(outer.source)}" would be writable, and another container has a mount of something in it`,
      { hint: 'Mount it read-only, or a folder beside the other mount; or remove the other container first.' },
    )
  }
}

/** What can be written where: each container by itself, since what guards a path in one is absent in another. */
function setsOf({ claimed, containers }: Holding): (readonly HeldMount[])[] {
  return [...(claimed === undefined ? [] : [claimed]), ...containers.values()]
}

/** The mount by which a container that has these could put something else in the place of a path. */
function swapperOf(mounts: readonly HeldMount[], path: string): HeldMount | undefined {
  return mounts.find((mount) => !mount.readOnly && isInside(path, mount.source) && !isGuarded(mounts, mount, path))
}

/**
 * True where the first step from a mount down to a path is a mount point in the container itself, in the
 * very place: the kernel renames and removes no mount point (EBUSY), and what lies beneath it is that
 * mount's to give. So it is with the read-only parts of a git worktree's repository.
 */
function isGuarded(mounts: readonly HeldMount[], { source, target }: HeldMount, path: string): boolean {
  const [name = ''] = posix.relative(source, path).split('/')
  return mounts.some((guard) => guard.source === posix.join(source, name) && guard.target === posix.join(target, name))
}

/** As paths are compared: without a slash at their end. */
function plain({ source, target, readOnly }: HeldMount): HeldMount {
  const trimmed = (path: string) => posix.join(path, '.')
  return { source: trimmed(source), target: trimmed(target), readOnly }
}

function isSame(one: HeldMount, other: HeldMount): boolean {
  return one.source === other.source && one.target === other.target && one.readOnly === other.readOnly
}

/** True for what lies in a folder, and not for the folder itself. */
function isInside(path: string, folder: string): boolean {
  return path !== folder && path.startsWith(folder.endsWith('/') ? folder : `${folder}/`)
}
