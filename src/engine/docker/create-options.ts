/** The one place where the body of a create call is built: typed fields and constants, nothing else. */
import type {
  ContainerSpec,
  HealthcheckSpec,
  MountSpec,
  NetworkAttachment,
  NetworkIsolation,
  NetworkSpec,
} from '../spec.ts'

/**
 * The engine's own log of a container: bounded, in its compact form. Compressed, which this driver does where nothing
 * is said, a file that is full takes the engine's time from a tool that floods, and the next one waits for it.
 */
const LOG = { Type: 'local', Config: { 'max-size': '10m', 'max-file': '3', compress: 'false' } }
/** A host that runs out of memory ends what is in containers before the engine and this service. */
const OOM_SCORE = 500
const SHM_BYTES = 64 * 1024 * 1024

/**
 * Of a container without a way out. The engine's resolver answers the names of its network itself, and
 * passes others on; where the host's own resolver is on a loopback address, an engine before 26 asks it
 * even for an internal network, which leaks what is in the name (CVE-2024-29018). So others are
 * passed to the container's own loopback. These engines answer nothing then, and the options tell how
 * long that is waited for: a name without a dot is not passed on at all, one with a dot fails in 2 s.
 */
const RESOLVER = {
  Dns: ['127.0.0.1'],
  // None: the host's search domains are its own affair.
  DnsSearch: ['.'],
  DnsOptions: ['ndots:1', 'timeout:1', 'attempts:2'],
}

/** Body of `POST /containers/create` (API 1.41 and later). */
export function createContainerBody(spec: ContainerSpec): object {
  const { network, resources, sandbox } = spec
  const hostsFile = network.mode === 'none' ? network.hostsFile : undefined
  return {
    Image: spec.imageId,
    ...(spec.entrypoint === undefined ? {} : { Entrypoint: [...spec.entrypoint] }),
    ...(spec.command === undefined ? {} : { Cmd: [...spec.command] }),
    ...(spec.user === undefined ? {} : { User: spec.user }),
    ...(spec.workingDir === undefined ? {} : { WorkingDir: spec.workingDir }),
    Env: Object.entries(spec.environment).map(([name, value]) => `${name}=${value}`),
    Labels: { ...spec.labels },
    Tty: false,
    OpenStdin: spec.openStdin,
    StdinOnce: spec.openStdin,
    AttachStdin: spec.openStdin,
    AttachStdout: true,
    AttachStderr: true,
    // An image's own health check and stop signal are its author's, not the caller's.
    Healthcheck: healthcheck(spec.healthcheck),
    StopSignal: 'SIGTERM',
    ...(hostsFile === undefined ? {} : { NetworkDisabled: true }),
    ...(spec.ports.length === 0
      ? {}
      : { ExposedPorts: Object.fromEntries(spec.ports.map((port) => [`${port.containerPort}/tcp`, {}])) }),
    HostConfig: {
      Memory: resources.memoryBytes,
      // Equal to Memory: no swap. Memory alone would allow as much again.
      MemorySwap: resources.memoryBytes,
      NanoCpus: Math.round(resources.cpus * 1e9),
      PidsLimit: resources.pids,
      Ulimits: [
        { Name: 'nofile', Soft: resources.openFiles.soft, Hard: resources.openFiles.hard },
        { Name: 'core', Soft: 0, Hard: 0 },
      ],
      ReadonlyRootfs: sandbox.readonlyRoot,
      CapDrop: ['ALL'],
      CapAdd: [...sandbox.capabilities],
      SecurityOpt: ['no-new-privileges'],
      Privileged: false,
      Init: true,
      AutoRemove: false,
      RestartPolicy: { Name: 'no' },
      IpcMode: 'private',
      // The engine's default is the host's with cgroup v1.
      CgroupnsMode: 'private',
      OomScoreAdj: OOM_SCORE,
      ...(sandbox.runtime === undefined ? {} : { Runtime: sandbox.runtime }),
      ...(spec.cgroupParent === undefined ? {} : { CgroupParent: spec.cgroupParent }),
      ShmSize: SHM_BYTES,
      LogConfig: LOG,
      Tmpfs: Object.fromEntries(
        sandbox.tmpfs.map(({ target, bytes, executable, owner }) => [
          target,
          // The engine adds noexec where nothing else is said. Over a folder of the image, runc gives it
          // that folder's mode: only its owner can write to it then.
          `rw,nosuid,nodev,${executable ? 'exec' : 'noexec'},mode=1777,size=${bytes}${owner ? `,uid=${owner.uid},gid=${owner.gid}` : ''}`,
        ]),
      ),
      Mounts: [...spec.mounts.map(mount), ...(hostsFile === undefined ? [] : [hostsMount(hostsFile)])],
      NetworkMode: network.mode === 'network' ? network.networkId : network.mode,
      ...(resolvesOutside(network) ? {} : RESOLVER),
      PublishAllPorts: false,
      PortBindings: Object.fromEntries(
        spec.ports.map((port) => [
          `${port.containerPort}/tcp`,
          [{ HostIp: port.hostIp, HostPort: String(port.hostPort) }],
        ]),
      ),
      ...(spec.gpu === undefined ? {} : { DeviceRequests: [deviceRequest(spec.gpu)] }),
    },
    ...(network.mode === 'network'
      ? {
          NetworkingConfig: {
            EndpointsConfig: { [network.networkId]: { Aliases: [...network.aliases] } },
          },
        }
      : {}),
  }
}

function resolvesOutside(network: NetworkAttachment): boolean {
  return network.mode === 'bridge' || (network.mode === 'network' && network.resolvesOutside === true)
}

function hostsMount(source: string): object {
  // Of what lies in its own folders, as a volume does, an engine asks for propagation from the host.
  return bind({ source, target: '/etc/hosts', readOnly: true }, 'rslave')
}

function healthcheck(spec: HealthcheckSpec | undefined): object {
  if (spec === undefined) return { Test: ['NONE'] }
  return {
    Test: ['CMD', ...spec.command],
    Interval: nanoseconds(spec.intervalSeconds),
    Timeout: nanoseconds(spec.timeoutSeconds),
    Retries: spec.retries,
  }
}

function nanoseconds(seconds: number): number {
  return Math.round(seconds * 1e9)
}

function mount(spec: MountSpec): object {
  if (spec.type === 'bind') return bind(spec, 'rprivate')
  return {
    Type: 'volume',
    ...(spec.source === undefined ? {} : { Source: spec.source }),
    Target: spec.target,
    ReadOnly: spec.readOnly,
    ...(spec.keepAsIs ? { VolumeOptions: { NoCopy: true } } : {}),
  }
}

/** A mount of type bind fails where the source is missing; `Binds` would create it as root. */
function bind(
  { source, target, readOnly }: { source: string; target: string; readOnly: boolean },
  propagation: 'rprivate' | 'rslave',
): object {
  return {
    Type: 'bind',
    Source: source,
    Target: target,
    ReadOnly: readOnly,
    BindOptions: { Propagation: propagation },
  }
}

function deviceRequest(gpu: NonNullable<ContainerSpec['gpu']>): object {
  return {
    Driver: gpu.driver,
    // The engine takes either a count or ids.
    ...(gpu.deviceIds.length > 0 ? { DeviceIDs: [...gpu.deviceIds] } : { Count: gpu.count === 'all' ? -1 : gpu.count }),
    Capabilities: [[...gpu.capabilities]],
  }
}

const ISOLATING_OPTIONS: Readonly<Record<NetworkIsolation, Readonly<Record<string, string>>>> = {
  gateway_isolated: { 'com.docker.network.bridge.gateway_mode_ipv4': 'isolated' },
  inhibit_ipv4: { 'com.docker.network.bridge.inhibit_ipv4': 'true' },
  none: {},
}

/** What a network's options say of its isolation. */
export function isolationOf(options: Readonly<Record<string, string>>): NetworkIsolation {
  const isGiven = (isolation: NetworkIsolation) =>
    Object.entries(ISOLATING_OPTIONS[isolation]).every(([name, value]) => options[name] === value)
  return (['gateway_isolated', 'inhibit_ipv4'] as const).find(isGiven) ?? 'none'
}

/** Body of `POST /networks/create`. */
export function createNetworkBody(spec: NetworkSpec): object {
  return {
    Name: spec.name,
    // Engines before 25 accept two networks of one name unless asked to look.
    CheckDuplicate: true,
    Driver: 'bridge',
    Internal: spec.internal,
    EnableIPv6: false,
    IPAM: { Driver: 'default', Config: [{ Subnet: spec.subnet }] },
    Options: {
      ...ISOLATING_OPTIONS[spec.isolation ?? 'none'],
      ...(spec.isolated ? { 'com.docker.network.bridge.enable_icc': 'false' } : {}),
    },
    Labels: { ...spec.labels },
  }
}
