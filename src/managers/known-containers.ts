import type { Engine } from '../engine/engine.ts'
import type { DockerManager, OwnedContainer } from './docker-manager.ts'

/** What is known is asked for anew after this long, should an event ever be lost. */
const TRUSTED_MS = 10_000
/** Events that leave a container's place in the list, and its start, as they are. */
const QUIET = /^(?:exec|health_status|attach|detach|resize|top|archive-path|extract-to-dir|export|copy|commit)/
const GONE = /^(?:destroy|remove)$/

/**
 * Our containers, and when they were started, without asking the engine each time: what it told is kept
 * while its events are followed, until one of them, or a call of our own, says that something changed.
 * For those who tell how things are; who acts on containers asks the engine.
 */
export class KnownContainers {
  readonly #engine: Engine
  readonly #docker: DockerManager
  readonly #onGone: (containerId: string) => void
  #isFollowing = false
  #listed: { at: number; containers: Promise<readonly OwnedContainer[]> } | undefined
  readonly #startedAt = new Map<string, Promise<Date | undefined>>()

  /** `onGone` is called when a container was removed, by whomever. */
  constructor(options: { engine: Engine; docker: DockerManager; onGone: (containerId: string) => void }) {
    this.#engine = options.engine
    this.#docker = options.docker
    this.#onGone = options.onGone
  }

  list(): Promise<readonly OwnedContainer[]> {
    if (!this.#isFollowing) return this.#docker.list()
    const now = performance.now()
    if (this.#listed !== undefined && now - this.#listed.at < TRUSTED_MS) return this.#listed.containers
    const listed = { at: now, containers: this.#docker.list() }
    this.#listed = listed
    listed.containers.catch(() => {
      if (this.#listed === listed) this.#listed = undefined
    })
    return listed.containers
  }

  /** Of its process that runs, or ran last; undefined where it never started, or is gone. */
  startedAt(containerId: string): Promise<Date | undefined> {
    const known = this.#startedAt.get(containerId)
    if (known !== undefined) return known
    const asked = this.#engine.containers.inspect(containerId).then((state) => state?.startedAt)
    if (!this.#isFollowing) return asked
    this.#startedAt.set(containerId, asked)
    const forget = () => {
      if (this.#startedAt.get(containerId) === asked) this.#startedAt.delete(containerId)
    }
    asked.then((startedAt) => {
      if (startedAt === undefined) forget()
    }, forget)
    return asked
  }

  /** From now on every change is told by `heard`. */
  followed(): void {
    this.#forget()
    this.#isFollowing = true
  }

  /** Changes are not told any more: nothing is kept. */
  unfollowed(): void {
    this.#isFollowing = false
    this.#forget()
  }

  /** The engine told of something. */
  heard(action: string, containerId: string): void {
    if (QUIET.test(action)) return
    this.#changed(containerId)
    if (GONE.test(action)) this.#onGone(containerId)
  }

  /** A call of our own may have changed a container: its events may come later. */
  changed(method: string, containerId: string | undefined): void {
    this.#changed(containerId)
    if (method === 'remove' && containerId !== undefined) this.#onGone(containerId)
  }

  #changed(containerId: string | undefined): void {
    this.#listed = undefined
    if (containerId !== undefined) this.#startedAt.delete(containerId)
  }

  #forget(): void {
    this.#listed = undefined
    this.#startedAt.clear()
  }
}
