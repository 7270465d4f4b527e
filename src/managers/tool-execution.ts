/** One tool run from its place in the queue to its end: the state machine that the store records. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { timestamp } from '../domain/common.ts'
import { type ExecuteTool, hasEnded, type ToolRun } from '../domain/tool.ts'
import type { Attachment, ContainerState, Engine, PathStat } from '../engine/engine.ts'
import { AppError, isEngineFault, messageOf } from '../errors.ts'
import { failpoint } from '../failpoints.ts'
import { type ContainerPlan, planTool } from '../policy/container-policy.ts'
import { throughProxy } from '../policy/egress-proxy.ts'
import type { Profile } from '../policy/profiles.ts'
import type { VolumeDecision } from '../policy/volumes.ts'
import type { Store } from '../store/store.ts'
import type { ArtifactCollector } from './artifact-collector.ts'
import { bootMoment, elapsedSince } from './boot-clock.ts'
import type { ColdStarts } from './cold-starts.ts'
import { untilEnded } from './container-end.ts'
import { startOnce } from './container-start.ts'
import type { DockerManager } from './docker-manager.ts'
import type { ResolvedImage } from './image-manager.ts'
import type { Log } from './log.ts'
import { containerName } from './names.ts'
import { type EndReason, endedInAbsence, type Outcome, outcomeOf, outcomeOfError } from './outcome.ts'
import type { ParkedContainer } from './parked-container.ts'
import type { ParkingPlan } from './parking-plan.ts'
import { fitOut, handOffOf, type PoolClientDeps, placeFor, rename, wasNeverHandedOver } from './pool-client.ts'
import { resultOf } from './result.ts'
import { RunOutput } from './run-output.ts'
import type { StatsStreams } from './stats-streams.ts'
import { type PreparedTool, prepareTool, type ToolPreparationDeps } from './tool-preparation.ts'
import { type ToolEntry, ToolRecord } from './tool-record.ts'
import { UsageMeter } from './usage-meter.ts'
import { placeInputFiles } from './writable-folders.ts'

export interface ToolExecutionDeps extends ToolPreparationDeps, PoolClientDeps {
  engine: Engine
  store: Store
  docker: DockerManager
  collector: ArtifactCollector
  coldStarts: ColdStarts
  streams: StatsStreams
  log: Log
}

/** What policy decided about a request before it was accepted. */
export interface ToolDecision {
  profile: Profile
  volumes: readonly VolumeDecision[]
}

/** How long a run whose engine is away waits for it beyond its own timeout. */
const ENGINE_AWAY_MS = 60_000
const KILL_RETRY_MS = 1_000
/** A run that the engine's absence keeps from starting is begun anew so often. */
const START_TRIES = 3

export class ToolExecution {
  /** Resolves with the ended run; with the run as it is where the service stops before its end. Never rejects. */
  readonly ended: Promise<ToolRun>
  readonly #deps: ToolExecutionDeps
  readonly #request: ExecuteTool
  /** Absent for a run that is adopted: its container is made. */
  readonly #decision: ToolDecision | undefined
  readonly #release: () => void
  readonly #output: RunOutput
  readonly #record: ToolRecord
  readonly #abort = new AbortController()
  readonly #detach = new AbortController()
  #resolveEnded: (run: ToolRun) => void = () => {}
  #endReason: EndReason | undefined
  /** The engine was asked to start its process: it must not be asked again. */
  #startAsked = false
  #wasKilled = false
  /** A parked container was told to become its tool, and did not. */
  #wasHandedOver = false
  #attempt = 1
  #ownVolumes: readonly string[] = []
  /** What it asked the pool for, found or not. */
  #parking: ParkingPlan | undefined
  #endColdStart = () => {}

  /** `release` is called when the process has ended, or will not be. */
  constructor(
    deps: ToolExecutionDeps,
    entry: ToolEntry,
    request: ExecuteTool,
    { decision, release = () => {} }: { decision?: ToolDecision; release?: () => void } = {},
  ) {
    this.#deps = deps
    this.#request = request
    this.#decision = decision
    this.#release = release
    const { store, log } = deps
    this.#output = new RunOutput({ spools: store.spools, runId: entry.id, log })
    this.#record = new ToolRecord({ entry, store, output: this.#output, log })
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve
    })
  }

  get entry(): ToolEntry {
    return this.#record.entry
  }

  /** The run as it is, with the output so far. */
  get view(): ToolRun {
    return hasEnded(this.entry.view.status) ? this.entry.view : { ...this.entry.view, ...this.#output.view }
  }

  /** Takes a run whose turn it is through all of its states. */
  async run(): Promise<void> {
    await this.#settling(async () => {
      const { view } = this.entry
      await this.#output.open(view)
      failpoint('tool.turn')
      view.timings.queue_ms = Math.max(0, Date.now() - Date.parse(view.queued_at))
      for (; ; this.#attempt++) {
        try {
          return (await this.#startParked()) ?? (await this.#startCold())
        } catch (error) {
          if (this.#attempt === START_TRIES || !(await this.#mayBeginAnew(error))) throw error
        }
      }
    })
  }

  /** Ends a run that cannot be begun. */
  async refuse(error: Error): Promise<void> {
    await this.#settling(async () => {
      await this.#output.open(this.entry.view)
      throw error
    })
  }

  /** Ends a run before its turn. */
  async cancelUnstarted(): Promise<void> {
    this.#endReason = 'cancelled'
    await this.refuse(new Error('The run is ended: cancelled'))
  }

  /** Takes over a container that an earlier process started. */
  async adopt(state: ContainerState): Promise<void> {
    await this.#settling(async () => {
      await this.#output.open(this.entry.view)
      this.#startAsked = true
      await this.#output.resume(this.#outputOf(state.id))
      const usage = state.status === 'running' ? new UsageMeter(this.#deps.streams, state.id) : undefined
      const since = this.#adoptedSince(state)
      await this.#record.note({ status: 'running', container_id: state.id, started_at: timestamp(since) }, state.id)
      return (await this.#watch(state.id, usage, since, undefined)) ?? NEVER_TOLD
    })
  }

  /** When the tool of an adopted container began, as far as that is known: one that was parked started before. */
  #adoptedSince({ startedAt, finishedAt }: ContainerState): Date {
    const { started_at, warm } = this.entry.view
    if (!warm) return startedAt ?? new Date()
    return started_at === null ? (finishedAt ?? new Date()) : new Date(started_at)
  }

  /** Ends the run as `cancelled`; a container that runs is killed, or asked first where there is a grace. */
  async cancel(graceSeconds?: number): Promise<void> {
    await this.#end('cancelled', graceSeconds)
  }

  /** Leaves the run to the next start of the service: nothing about it is settled any more. */
  detach(): void {
    this.#detach.abort()
    this.#abort.abort(new Error('The service is stopping'))
    this.#resolveEnded(this.view)
  }

  async #settling(work: () => Promise<Outcome>): Promise<void> {
    let outcome: Outcome
    try {
      outcome = await work()
    } catch (error) {
      if (this.#detach.signal.aborted) return
      await this.#tellBuildOutput(error)
      outcome = this.#failed(error)
    } finally {
      if (this.#parking !== undefined) this.#deps.pool.ended(this.#parking)
      this.#release()
    }
    if (this.#detach.signal.aborted) return
    await this.#finish(outcome)
  }

  /**
   * True where the engine was away before it was asked to start the process, and is back: whatever it
   * made of the attempt bears the attempt's nonce, which nobody claims any more.
   */
  async #mayBeginAnew(error: unknown): Promise<boolean> {
    if (this.#startAsked || this.#endReason !== undefined || !isEngineFault(error, 'unavailable', 'deadline'))
      return false
    const { docker, engine, log } = this.#deps
    log.warn(
      { event: 'tool.begun_anew', execution_id: this.entry.id, error: messageOf(error) },
      'the engine was away before a run could start: it is begun anew',
    )
    const patience = AbortSignal.any([this.#abort.signal, AbortSignal.timeout(ENGINE_AWAY_MS)])
    if (
      !(await engine.availability.restored(patience).then(
        () => true,
        () => false,
      ))
    )
      return false
    if (this.entry.containerId !== null) docker.removeLater(this.entry.containerId, this.#ownVolumes)
    Object.assign(this.entry, renewed(this.entry))
    return true
  }

  /** What a failed build wrote last is what the run has to show. */
  async #tellBuildOutput(error: unknown): Promise<void> {
    const tail = error instanceof AppError ? error.details.logsTail : undefined
    if (tail === undefined) return
    await this.#output.add({ stream: 'stderr', bytes: Buffer.from(tail) })
  }

  #failed(error: unknown): Outcome {
    // Whatever broke off on the way, it did so since the run was ended.
    if (this.#endReason !== undefined) return { ...outcomeOf(NEVER_RAN, { reason: this.#endReason }), exitCode: null }
    if (!(error instanceof AppError)) {
      this.#deps.log.error(
        { event: 'tool.broke', execution_id: this.entry.id, err: error },
        'a run failed by a fault of the service',
      )
    }
    return outcomeOfError(error)
  }

  async #prepare(): Promise<PreparedTool & { profile: Profile }> {
    if (this.#decision === undefined) throw new Error('a run without a policy decision cannot be started')
    const { profile, volumes } = this.#decision
    // Stored before anything is made: what is queued in the store is taken for never begun.
    await this.#record.insist({ status: 'preparing' }, this.#abort.signal)
    this.#deps.store.sync()
    const began = performance.now()
    const { id, nonce, owner } = this.entry
    const prepared = await prepareTool(
      this.#deps,
      this.#request,
      { volumes, profile },
      { id, nonce, owner },
      this.#abort.signal,
    )
    this.#ownVolumes = prepared.ownVolumes
    failpoint('tool.prepared')
    this.#record.timed('image_ms', began)
    return { ...prepared, profile }
  }

  /**
   * Hands the run over to a container that waits for one; undefined where none does that fits, or where
   * it ended before it had all of the hand-off, so that the tool has not run.
   */
  async #startParked(): Promise<Outcome | undefined> {
    if (this.#decision === undefined || this.#attempt > 1) return undefined
    const began = performance.now()
    const place = await placeFor(this.#deps, this.#request, this.#decision.profile, this.entry)
    this.#parking = place?.plan
    const container = place && this.#deps.pool.take(place.plan)
    if (place === undefined || container === undefined) return undefined
    try {
      this.#record.timed('image_ms', began)
      return await this.#handOver(container, place.image)
    } catch (error) {
      // Whoever made it wait, or whatever was to be told to it, the run has not begun.
      if (this.#startAsked || this.#endReason !== undefined || isEngineFault(error, 'unavailable', 'deadline'))
        throw error
      this.#deps.log.warn(
        { event: 'tool.not_handed_over', execution_id: this.entry.id, error: messageOf(error) },
        'a parked container did not take a run over, which is started in one of its own',
      )
      return undefined
    } finally {
      if (!this.#startAsked) this.#giveUpParked()
    }
  }

  async #handOver(container: ParkedContainer, image: ResolvedImage): Promise<Outcome | undefined> {
    const { docker } = this.#deps
    const { containerId, attachment } = container
    docker.handOver(containerId, container.id, this.#ownership())
    this.#ownVolumes = container.volumes
    this.entry.view.warm = true
    // Stored before it is told anything: a next start of the service finds the container by it.
    await this.#record.insist({ status: 'preparing' }, this.#abort.signal, containerId)
    failpoint('pool.taken')
    try {
      const created = performance.now()
      const before = await fitOut(this.#deps, container, this.#request, this.#abort.signal)
      this.#record.timed('create_ms', created)
      this.#abort.signal.throwIfAborted()
      const started = performance.now()
      container.handOver(handOffOf(this.#request, this.entry.id, image), image)
      this.#startAsked = true
      this.entry.started = bootMoment()
      failpoint('pool.handed_over')
      const startedAt = new Date()
      this.#record.timed('start_ms', started)
      rename(this.#deps, containerId, this.entry)
      const outcome = await this.#follow(attachment, image, startedAt, before)
      if (outcome !== undefined) return outcome
      this.#startAsked = false
      this.#wasHandedOver = true
      return undefined
    } finally {
      container.close()
    }
  }

  /** Nothing of the run was begun: it is as it was before, and its container goes. */
  #giveUpParked(): void {
    const { containerId } = this.entry
    if (containerId !== null) this.#deps.docker.removeLater(containerId, this.#ownVolumes)
    this.#ownVolumes = []
    Object.assign(this.entry, renewed(this.entry))
    Object.assign(this.entry.view, { warm: false, container_id: null, started_at: null })
  }

  async #startCold(): Promise<Outcome> {
    this.#endColdStart = this.#deps.coldStarts.begin()
    try {
      return await this.#start(await this.#prepare())
    } finally {
      this.#endColdStart()
    }
  }

  #ownership() {
    const { id, sessionId, owner, name, nonce } = this.entry
    return { kind: 'tool', id, session: sessionId, owner: owner ?? undefined, name, nonce } as const
  }

  #plan({ mounts, profile }: PreparedTool & { profile: Profile }): ContainerPlan {
    const plan = planTool(this.#request, this.entry.id, profile, mounts)
    return this.#request.network_mode === 'egress' ? throughProxy(plan, profile.name) : plan
  }

  async #start(prepared: PreparedTool & { profile: Profile }): Promise<Outcome> {
    const { docker, engine } = this.#deps
    const { image, folders } = prepared
    const began = performance.now()
    const containerId = await docker.create({
      owner: this.#ownership(),
      // Under the name of an earlier attempt the engine may have a container after all.
      containerName: containerName(
        'tool',
        this.entry.name,
        this.entry.sessionId,
        this.#attempt === 1 && !this.#wasHandedOver ? this.entry.id : this.entry.nonce,
      ),
      imageId: image.id,
      plan: this.#plan(prepared),
      network: prepared.network,
      labels: this.#request.labels,
    })
    this.entry.containerId = containerId
    let attachment: Attachment | undefined
    try {
      const [attached, before] = await Promise.all([
        engine.containers.attach(containerId, {
          stdin: this.#request.stdin !== undefined,
          signal: this.#detach.signal,
        }),
        this.#deps.collector.outputBefore(containerId),
      ])
      attachment = attached
      failpoint('tool.attached')
      await placeInputFiles(engine.containers, containerId, folders, this.#abort.signal)
      // An input file in /output changes it before the tool does.
      const reference = folders.files.length === 0 ? before : await this.#deps.collector.outputBefore(containerId)
      this.#record.timed('create_ms', began)
      this.#abort.signal.throwIfAborted()
      failpoint('tool.filled')
      // What it mounts of the host is claimed since it was made: nobody moves it from here on.
      await this.#deps.volumes.requireInPlace(prepared.mounts.filter(({ type }) => type === 'bind'))
      return await this.#startProcess(containerId, attached, image, reference)
    } finally {
      attachment?.close()
    }
  }

  async #startProcess(
    containerId: string,
    attachment: Attachment,
    image: ResolvedImage,
    before: PathStat | undefined,
  ): Promise<Outcome> {
    const began = performance.now()
    this.#startAsked = true
    const answered = await this.#startContainer(containerId)
    this.#endColdStart()
    this.entry.started = bootMoment()
    failpoint('tool.started')
    const startedAt = new Date()
    this.#record.timed('start_ms', began)
    if (this.#request.stdin !== undefined) {
      attachment.stdin.on('error', () => {
        // The tool ended, or closed its stdin, before it had read everything.
      })
      attachment.stdin.end(this.#request.stdin)
    }
    return (await this.#follow(attachment, image, startedAt, before, answered)) as Outcome
  }

  /** From a process that was started to its outcome; undefined where a parked one never became the tool. */
  async #follow(
    attachment: Attachment,
    image: ResolvedImage,
    startedAt: Date,
    before: PathStat | undefined,
    answered = true,
  ): Promise<Outcome | undefined> {
    const containerId = this.entry.containerId as string
    const usage = new UsageMeter(this.#deps.streams, containerId)
    this.#output.follow(this.#outputOf(containerId), attachment)
    // What cut off the answer may have cut off the attachment.
    if (!answered) this.#output.interrupted()
    const noted = this.#record.note(
      {
        status: 'running',
        container_id: containerId,
        image: image.reference,
        image_id: image.id,
        started_at: timestamp(startedAt),
      },
      containerId,
    )
    try {
      failpoint('tool.running')
      return await this.#watch(containerId, usage, startedAt, before)
    } finally {
      // What is stored of the end comes after it.
      await noted
    }
  }

  /** False where the engine's answer was missing at first. */
  async #startContainer(containerId: string): Promise<boolean> {
    const { engine } = this.#deps
    if (this.#request.stdin === undefined) return startOnce(engine, containerId, this.#abort.signal)
    // Its stdin would be lost with the connection: it is not looked for again.
    await engine.containers.start(containerId)
    return true
  }

  /**
   * From a started container to its outcome, with output, usage and artifacts taken; undefined where it was
   * a parked one that never became the tool.
   */
  async #watch(
    containerId: string,
    usage: UsageMeter | undefined,
    startedAt: Date,
    before: PathStat | undefined,
  ): Promise<Outcome | undefined> {
    const { timeout_seconds } = this.#request.resource_limits
    const { started } = this.entry
    // The wall clock may have been set since; the engine's stamp is all there is of a start before the host's.
    const elapsed = () => (started && elapsedSince(started)) ?? Date.now() - startedAt.getTime()
    const remaining = Math.min(timeout_seconds * 1000, Math.max(0, timeout_seconds * 1000 - elapsed()))
    const timer = setTimeout(() => void this.#end('timeout'), remaining)
    let state: ContainerState | undefined
    try {
      // A cancel that came while the container was being started finds it here.
      if (this.#endReason !== undefined) await this.#kill(containerId)
      const until = performance.now() + remaining + ENGINE_AWAY_MS
      state = await untilEnded(this.#deps.engine.containers, containerId, {
        signal: this.#detach.signal,
        until,
        onInterrupted: () => this.#output.interrupted(),
      })
    } finally {
      clearTimeout(timer)
    }
    const tookAtMost = elapsed()
    // It never runs again, whether its container is kept or not.
    this.#deps.docker.hostMounts.gone(containerId)
    failpoint('tool.ended')
    await this.#output.drained()
    failpoint('tool.drained')
    this.entry.view.resource_usage = usage?.stop() ?? null
    const { warm } = this.entry.view
    if (warm && state !== undefined && (await wasNeverHandedOver(this.#deps.engine.containers, state))) {
      return undefined
    }
    // One that was parked started before its tool did.
    const began = (warm ? undefined : state?.startedAt) ?? startedAt
    const completedAt = endOf(state?.finishedAt, began, warm ? tookAtMost : undefined)
    const { view } = this.entry
    const duration_ms = completedAt.getTime() - began.getTime()
    view.timings.run_ms = duration_ms
    view.oom_seen = state?.oomKilled ?? false
    if (state !== undefined) await this.#collect(containerId, before)
    Object.assign(view, { started_at: timestamp(began), completed_at: timestamp(completedAt), duration_ms })
    if (state === undefined) {
      return {
        status: 'failed',
        exitCode: null,
        failure: { code: 'lost', message: 'The container was removed by somebody else while it ran', hint: null },
      }
    }
    failpoint('tool.collected')
    return outcomeOf(state, {
      reason: this.#endReason,
      timeoutSeconds: timeout_seconds,
      engineLeft: endedInAbsence(state, this.#deps.engine.availability),
    })
  }

  /** Result and artifacts. What cannot be collected is logged: the run's own outcome stands. */
  async #collect(containerId: string, before: PathStat | undefined): Promise<void> {
    const began = performance.now()
    let resultFile: string | undefined
    try {
      const collected = await this.#deps.collector.collect(
        this.entry.id,
        containerId,
        this.#request.output_paths,
        before,
      )
      this.entry.view.artifacts = collected.artifacts
      resultFile = collected.resultFile
      for (const warning of collected.warnings) {
        this.#deps.log.warn(
          { event: 'tool.artifact_skipped', execution_id: this.entry.id, warning },
          'an artifact was left out',
        )
      }
    } catch (error) {
      this.#deps.log.warn(
        { event: 'tool.collect_failed', execution_id: this.entry.id, error: messageOf(error) },
        'artifacts could not be collected',
      )
    }
    const { stdout, stdout_truncated: truncated } = this.#output.view
    Object.assign(this.entry.view, resultOf({ file: resultFile, stdout, truncated }))
    this.#record.timed('collect_ms', began)
  }

  async #finish(outcome: Outcome): Promise<void> {
    const { docker, log } = this.#deps
    const { view } = this.entry
    Object.assign(view, this.#output.view, {
      status: outcome.status,
      exit_code: outcome.exitCode,
      failure: outcome.failure,
      completed_at: view.completed_at ?? timestamp(),
    })
    const { containerId } = this.entry
    if (containerId !== null && !this.#startAsked) docker.hostMounts.gone(containerId)
    // Before anybody is answered: what comes next may mount the same.
    docker.hostMounts.release(this.entry.id)
    const kept = !this.#request.cleanup && containerId !== null
    this.entry.status = outcome.status
    this.entry.live = false
    // A container that is kept is claimed by its request, until its session is cleaned up.
    if (!kept) this.entry.request = null
    // Its container stays until its end is stored: a next start of the service can still tell it from that.
    // Who waits is answered although the end is not stored yet.
    await this.#record.storeEnd(this.#detach.signal, () => this.#resolveEnded(view))
    failpoint('tool.stored')
    if (this.#detach.signal.aborted) return
    this.#output.state(view.status)
    await this.#output.seal().catch((error: unknown) => {
      log.error({ event: 'tool.log_cut', execution_id: this.entry.id, error: messageOf(error) }, 'a log has gaps')
    })
    failpoint('tool.sealed')
    if (containerId !== null && !kept) docker.removeLater(containerId, this.#ownVolumes)
    log.info(
      {
        event: 'tool.finished',
        execution_id: this.entry.id,
        tool_name: view.tool_name,
        session_id: view.session_id,
        outcome: view.status,
        failure: view.failure?.code,
        exit_code: view.exit_code,
        duration_ms: view.duration_ms,
      },
      'tool finished',
    )
    this.#resolveEnded(view)
  }

  async #end(reason: EndReason, graceSeconds?: number): Promise<void> {
    if (this.#endReason !== undefined || hasEnded(this.entry.view.status)) return
    this.#endReason = reason
    this.#abort.abort(new Error(`The run is ended: ${reason}`))
    const { containerId } = this.entry
    if (containerId !== null && this.entry.view.status === 'running') await this.#kill(containerId, graceSeconds)
  }

  /** Repeats what the engine fails to do: a run must not outlive its timeout. */
  async #kill(containerId: string, graceSeconds?: number): Promise<void> {
    const { containers } = this.#deps.engine
    while (!this.#detach.signal.aborted && !hasEnded(this.entry.view.status)) {
      try {
        if (graceSeconds !== undefined) await containers.stop(containerId, graceSeconds)
        // Where it ended by itself in the meantime, its own end is what counts.
        else if (!(await containers.kill(containerId)) && !this.#wasKilled) this.#endReason = undefined
        this.#wasKilled = this.#endReason !== undefined
        return
      } catch (error) {
        this.#deps.log.warn(
          { event: 'tool.kill_failed', execution_id: this.entry.id, error: messageOf(error) },
          'a run could not be killed',
        )
        await sleep(KILL_RETRY_MS)
      }
    }
  }

  #outputOf(containerId: string) {
    return { engine: this.#deps.engine, containerId, detach: this.#detach.signal }
  }
}

/** The end of an adopted run whose parked container had not been told what to run after all. */
const NEVER_TOLD: Outcome = {
  status: 'failed',
  exitCode: null,
  failure: { code: 'lost', message: 'The service ended before its container was told what to run', hint: null },
}

/**
 * When a run ended, by the engine's word. Where its beginning is by this service's clock, of which the
 * engine's may be another, `tookAtMost` is the milliseconds that passed until its end was seen.
 */
function endOf(finishedAt: Date | undefined, began: Date, tookAtMost: number | undefined): Date {
  const end = finishedAt ?? new Date()
  const took = end.getTime() - began.getTime()
  if (tookAtMost !== undefined && (took < 0 || took > tookAtMost)) {
    return new Date(began.getTime() + Math.max(0, tookAtMost))
  }
  // An engine stamps the start of a very short run after its end.
  return took < 0 ? began : end
}

/** Stands for the state of a process that was never started. */
const NEVER_RAN = { exitCode: 0, oomKilled: false, error: '' }

/** A fresh nonce for one more attempt at a run that never started. */
export function renewed(entry: ToolEntry): ToolEntry {
  return { ...entry, nonce: randomUUID(), containerId: null, started: undefined }
}
