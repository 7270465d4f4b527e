/** Whether a relic answers: probed until it is healthy, regularly from then on, and when somebody asks. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Probe, RelicHealth } from '../domain/relic.ts'
import type { DoorTarget } from './door.ts'
import type { HealthPoller } from './health-poller.ts'
import { ProbeHistory } from './probe-history.ts'
import type { RelicRecord } from './relic-record.ts'

const PROBE_INTERVAL_MS = 10_000

export class RelicProber {
  /** Where it is asked; absent until its container has an address. */
  door: DoorTarget | undefined
  readonly #poller: HealthPoller
  readonly #record: RelicRecord
  readonly #probes = new ProbeHistory()

  constructor(poller: HealthPoller, record: RelicRecord) {
    this.#poller = poller
    this.#record = record
  }

  get last(): Probe | undefined {
    return this.#probes.last
  }

  /** False for a relic without an endpoint to ask: it is healthy as long as it runs. */
  get isAsked(): boolean {
    return this.#path !== null
  }

  /** Resolves with the first good answer; rejects with the reason of an abort. */
  async untilHealthy(door: DoorTarget, signal: AbortSignal): Promise<void> {
    if (this.#path === null) return
    try {
      await this.#poller.untilHealthy(door, this.#path, signal, (probe) => this.#probes.add(probe))
    } catch (error) {
      // A wait that was cut short tells why it was, not that it was.
      throw signal.aborted ? signal.reason : error
    }
  }

  /** Keeps the health of a relic that runs current, until the abort. */
  async watch(over: AbortSignal): Promise<void> {
    if (this.#path === null) return
    while (!over.aborted) {
      await sleep(PROBE_INTERVAL_MS, undefined, { signal: over, ref: false }).catch(() => {})
      if (over.aborted || this.door === undefined) continue
      const probe = await this.#poller.probe(this.door, this.#path, over)
      if (!over.aborted) await this.#note(probe)
    }
  }

  /** Health as of at most a second ago, with the last probes. */
  async health(): Promise<RelicHealth> {
    const { id, view } = this.#record.entry
    const runs = view.status === 'healthy' || view.status === 'unhealthy'
    if (this.#path !== null && this.door !== undefined && runs && !this.#probes.isFresh) {
      await this.#note(await this.#poller.probe(this.door, this.#path))
    }
    return { relic_id: id, status: view.status, healthy: view.status === 'healthy', probes: this.#probes.all }
  }

  get #path(): string | null {
    return this.#record.request.health_check_endpoint
  }

  /** Adds a probe, and lets it decide between healthy and unhealthy. */
  async #note(probe: Probe): Promise<void> {
    this.#probes.add(probe)
    const { status } = this.#record.entry.view
    if (probe.healthy && status === 'unhealthy') await this.#record.update({ status: 'healthy' })
    if (this.#probes.isFailing && status === 'healthy') await this.#record.update({ status: 'unhealthy' })
  }
}
