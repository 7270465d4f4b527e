/** The managers, made and joined: from a configuration, an engine and a store. */
import type { Config } from './config.ts'
import type { Engine, EngineInfo } from './engine/engine.ts'
import { tellingChanges } from './engine/telling-changes.ts'
import { ArtifactCollector } from './managers/artifact-collector.ts'
import { ColdStarts } from './managers/cold-starts.ts'
import { CredentialManager } from './managers/credential-manager.ts'
import { DiskWatch } from './managers/disk-watch.ts'
import { DockerManager } from './managers/docker-manager.ts'
import { Door } from './managers/door.ts'
import { EgressManager } from './managers/egress-manager.ts'
import { EngineWatch } from './managers/engine-watch.ts'
import { EventReader } from './managers/event-reader.ts'
import { ExecManager } from './managers/exec-manager.ts'
import { HealthManager } from './managers/health-manager.ts'
import { HealthPoller } from './managers/health-poller.ts'
import { HostMounts } from './managers/host-mounts.ts'
import type { HostPaths } from './managers/host-paths.ts'
import { Idempotency } from './managers/idempotency.ts'
import { ImageCache } from './managers/image-cache.ts'
import { ImageManager } from './managers/image-manager.ts'
import { ImageUsers } from './managers/image-users.ts'
import { KnownContainers } from './managers/known-containers.ts'
import type { Log } from './managers/log.ts'
import { LogReader } from './managers/log-reader.ts'
import { LoopbackOnly } from './managers/loopback-only.ts'
import { continueIds } from './managers/names.ts'
import { NamespaceEntry } from './managers/namespace-entry.ts'
import { NetworkManager } from './managers/network-manager.ts'
import { PoolManager } from './managers/pool-manager.ts'
import { PortForwarder } from './managers/port-forwarder.ts'
import { Reconciler } from './managers/reconciler.ts'
import { RelicManager } from './managers/relic-manager.ts'
import { RelicProxy } from './managers/relic-proxy.ts'
import { Retention } from './managers/retention.ts'
import { SessionGate } from './managers/session-gate.ts'
import { SessionManager } from './managers/session-manager.ts'
import { SessionNames } from './managers/session-names.ts'
import { SessionQuotas } from './managers/session-quotas.ts'
import { SessionReaper } from './managers/session-reaper.ts'
import { StatsManager } from './managers/stats-manager.ts'
import { StatsStreams } from './managers/stats-streams.ts'
import { StoreRebuilder } from './managers/store-rebuilder.ts'
import { ToolManager } from './managers/tool-manager.ts'
import { Toolbox } from './managers/toolbox.ts'
import { VolumeResolver } from './managers/volume-resolver.ts'
import { WorkerFiles } from './managers/worker-files.ts'
import { WorkerHealthManager } from './managers/worker-health-manager.ts'
import { WorkerManager } from './managers/worker-manager.ts'
import type { Store } from './store/store.ts'

export interface Parts {
  config: Config
  engine: Engine
  engineInfo: EngineInfo
  store: Store
  hostPaths: HostPaths
  log: Log
}

export function buildServices({ config, engine: given, engineInfo, store, hostPaths, log }: Parts) {
  const { instance } = store
  const engine = tellingChanges(given, (method, containerId) => known.changed(method, containerId))
  const disk = new DiskWatch({
    folders: [config.dataDir, engineInfo.dataRoot].filter((folder) => folder !== ''),
    reserveBytes: config.diskReserveMegabytes * 1024 ** 2,
    onChange: (isLow) => (isLow ? tools.queue.suspend('disk') : tools.queue.resume('disk')),
    log,
  })
  const gate = new SessionGate([() => engine.availability.require('making a container'), () => disk.requireRoom()])
  const quotas = new SessionQuotas({ sessions: store.sessions, operator: config.sessionQuotas })
  const hostMounts = new HostMounts((path) => hostPaths.toLocal(path))
  const docker = new DockerManager({
    engine,
    instance,
    log,
    cores: engineInfo.cores,
    cgroupParent: config.cgroupParent,
    hostMounts,
    recorded: () => store.synced(),
    onHandOver: (containerId) => known.changed('handOver', containerId),
  })
  const { isolation, oneShotStats } = engineInfo.capabilities
  const streams = new StatsStreams({ containers: engine.containers, oneShot: oneShotStats })
  const known = new KnownContainers({ engine, docker, onGone: (containerId) => streams.forget(containerId) })
  const networks = new NetworkManager({ engine, instance, range: config.sessionSubnets, isolation, log })
  const { allowedImages, allowBuild, cgroupParent } = config
  const build = { ...config.build, ...(cgroupParent === undefined ? {} : { cgroupParent }) }
  const imageCache = new ImageCache({ engine, log })
  const images = new ImageManager({ engine, instance, allowedImages, allowBuild, build, log, cache: imageCache })
  const policy = { allowedHostRoots: config.allowedHostRoots, sharedVolumes: config.sharedVolumes }
  const toolbox = new Toolbox({ engine, docker, instance, binary: config.toolboxBinary })
  const loopback = new LoopbackOnly({ availability: engine.availability, toolbox, log })
  const volumes = new VolumeResolver({ engine, instance, policy, hostPaths, hostMounts, toolbox })
  const collector = new ArtifactCollector(engine.containers, store.artifacts)
  const door = new Door(engine, new NamespaceEntry({ toolbox, log }))
  const poller = new HealthPoller(door)
  const forwarder = new PortForwarder(door)
  const { profiles, maxConcurrentRuns, queueLimit } = config
  const egress = new EgressManager({ engine, docker, networks, toolbox, outside: config.egressNetwork, log })
  const shared = { egress, engine, engineInfo, store, docker, networks, images, volumes, profiles, gate, quotas, log }
  const coldStarts = new ColdStarts()
  const pool = new PoolManager({
    coldStarts,
    engine,
    docker,
    networks,
    toolbox,
    loopback,
    collector,
    // Podman 4 leaks what it is asked for with an attachment into the container's stdin.
    max: engineInfo.name === 'podman' ? 0 : config.poolMax,
    memoryBytes: config.poolMegabytes * 1024 ** 2,
    mayPark: () => engine.availability.isAvailable && !disk.isLow && !gate.draining,
    isBusy: () => tools.queue.waiting > 0,
    log,
  })
  const tools = new ToolManager({
    ...shared,
    toolbox,
    loopback,
    collector,
    streams,
    pool,
    coldStarts,
    maxConcurrentRuns,
    queueLimit,
  })
  const { queue } = tools
  const logs = new LogReader(store.spools)
  const names = new SessionNames(profiles)
  const relics = new RelicManager({ ...shared, names, coldStarts, toolbox, poller, forwarder, logs })
  const relicProxy = new RelicProxy({ door, relics, forwarder })
  const imageUsers = new ImageUsers({ engine, docker })
  const workers = new WorkerManager({
    ...shared,
    names,
    coldStarts,
    toolbox,
    forwarder,
    logs,
    hostPaths,
    imageUsers,
    credentials: new CredentialManager({ containers: engine.containers, volumes }),
    credentialSets: config.credentials,
    environmentPrefixes: config.workerEnvironmentPrefixes,
    limits: config.workerLimits,
  })
  quotas.count(relics)
  quotas.count(workers.lives)
  names.count(relics)
  names.count(workers.lives)
  const execs = new ExecManager({ engine, store, workers, imageUsers, log })
  const files = new WorkerFiles({ engine, workers, log })
  const stats = new StatsManager({ known, streams, ownership: store.ownership })
  const workerHealth = new WorkerHealthManager({ engine, workers, stats, log })
  const sessions = new SessionManager({
    engine,
    store,
    docker,
    networks,
    images,
    tools,
    relics,
    workers,
    stats,
    gate,
    quotas,
    log,
  })
  const reaper = new SessionReaper({ store, sessions, tools, relics, workers: workers.lives, log })
  const retention = new Retention({
    store,
    images,
    days: config.retentionDays,
    spoolBytes: config.spoolMegabytes * 1024 ** 2,
    log,
  })
  const reconciler = new Reconciler({
    egress,
    engine,
    store,
    docker,
    networks,
    tools,
    pool,
    relics,
    workers,
    execs,
    log,
  })
  const rebuilder = new StoreRebuilder({ engine, store, docker, networks, hostPaths, log })
  const engineWatch = new EngineWatch({ engine, store, docker, known, queue, reconciler, log })
  const health = new HealthManager({ engine, engineInfo, store, queue, pool, relics, networks, gate, disk })
  return {
    docker,
    owners: store.ownership,
    synced: () => store.synced(),
    logs,
    networks,
    tools,
    pool,
    relics,
    relicProxy,
    workers,
    workerHealth,
    execs,
    files,
    events: new EventReader(store.events),
    idempotency: new Idempotency(store.idempotencyKeys),
    stats,
    sessions,
    reconciler,
    reaper,
    retention,
    health,
    counts: () => ({
      tools_queued: queue.waiting,
      tools_running: queue.running,
      relics: relics.count,
      workers: workers.lives.count,
    }),

    /** Takes over what an earlier process left, and begins the regular work. */
    async begin(): Promise<void> {
      await rebuilder.rebuild()
      for (const records of [store.tools, store.relics, store.workers, store.execs]) {
        const newest = await records.newestId()
        if (newest !== undefined) continueIds(newest)
      }
      await disk.look()
      await reconciler.recover()
      await networks.inspectIsolation(await docker.list())
      disk.begin()
      engineWatch.begin()
      imageCache.begin()
      reconciler.begin()
      reaper.begin()
      retention.begin()
      workerHealth.begin()
    },

    /** Takes no new work, lets runs in flight end for a while, and leaves the rest to the next start. */
    async drain(seconds: number): Promise<void> {
      gate.drain()
      reconciler.end()
      reaper.end()
      retention.end()
      disk.end()
      await engineWatch.end()
      await tools.drain(seconds)
      await pool.end()
      await imageCache.end()
      workerHealth.end()
      execs.detach()
      relics.detach()
      workers.detach()
      await forwarder.closeAll()
      streams.close()
      await docker.settled()
    },
  }
}
