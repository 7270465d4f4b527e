import type { Probe } from '../domain/relic.ts'

const KEPT = 10
const FRESH_MS = 1_000
/** This many failures in a row make a healthy relic unhealthy. */
const UNHEALTHY_AFTER = 3

/** The last probes of a relic, and what they say together. */
export class ProbeHistory {
  readonly #probes: Probe[] = []
  #probedAt = Number.NEGATIVE_INFINITY

  get all(): Probe[] {
    return [...this.#probes]
  }

  get last(): Probe | undefined {
    return this.#probes.at(-1)
  }

  /** The last one is so young that another would tell nothing new. */
  get isFresh(): boolean {
    return performance.now() - this.#probedAt < FRESH_MS
  }

  get isFailing(): boolean {
    const latest = this.#probes.slice(-UNHEALTHY_AFTER)
    return latest.length === UNHEALTHY_AFTER && latest.every((probe) => !probe.healthy)
  }

  add(probe: Probe): void {
    this.#probes.push(probe)
    this.#probedAt = performance.now()
    if (this.#probes.length > KEPT) this.#probes.shift()
  }
}
