/**
 * What a container or network is to be, in typed fields that policy fills in and an engine
 * translates. There is no field for anything that a caller may never have (privileged, devices,
 * host namespaces, security options): those are constants of the translation.
 */
import type { Labels } from '../labels.ts'

/** Linux capabilities that a profile may grant; everything else is dropped. */
export const GRANTABLE_CAPABILITIES = [
  'CHOWN',
  'DAC_OVERRIDE',
  'FOWNER',
  'SETGID',
  'SETUID',
  'KILL',
  'NET_BIND_SERVICE',
] as const
export type Capability = (typeof GRANTABLE_CAPABILITIES)[number]

export interface ContainerSpec {
  name: string
  /** Image id, never a tag that can move. */
  imageId: string
  /** Replaces the image's entrypoint, and drops its command. */
  entrypoint?: readonly string[]
  command?: readonly string[]
  environment: Readonly<Record<string, string>>
  labels: Labels
  user?: string
  workingDir?: string
  /** Keeps stdin open for one attached writer. */
  openStdin: boolean
  resources: ResourceSpec
  sandbox: SandboxSpec
  mounts: readonly MountSpec[]
  network: NetworkAttachment
  ports: readonly PortSpec[]
  gpu?: GpuSpec
  /** Cgroup that its own is made in; the engine's default where absent. */
  cgroupParent?: string
  healthcheck?: HealthcheckSpec
}

/** What the engine runs in the container, again and again; an exit code other than 0 is a failure. */
export interface HealthcheckSpec {
  command: readonly string[]
  intervalSeconds: number
  timeoutSeconds: number
  /** So many failures in a row make it unhealthy. */
  retries: number
}

export interface ResourceSpec {
  /** Swap is off: memory and swap together are bound to this. */
  memoryBytes: number
  /** In cores; 0.5 is half a core. */
  cpus: number
  pids: number
  openFiles: { soft: number; hard: number }
}

export interface SandboxSpec {
  readonlyRoot: boolean
  capabilities: readonly Capability[]
  tmpfs: readonly TmpfsSpec[]
  /** A runtime of the engine; its default where absent. */
  runtime?: string
}

export interface TmpfsSpec {
  target: string
  bytes: number
  /** Programs in it may be executed. */
  executable?: boolean
  /** Whose it is; root's where absent. Anyone may write to it unless the folder beneath it says otherwise. */
  owner?: { uid: number; gid: number }
}

/**
 * A volume without `source` is anonymous and goes with its container. An empty one gets the content and
 * the mode of the image's folder, unless it is kept as it is.
 */
export type MountSpec =
  | { type: 'volume'; source?: string; target: string; readOnly: boolean; keepAsIs?: boolean }
  | { type: 'bind'; source: string; target: string; readOnly: boolean }

/**
 * Of mode `none`, a container has its loopback alone. With a `hostsFile`, a path on the engine's host that
 * becomes its /etc/hosts, the engine sets up no network of its own for it, which takes it longer than all
 * else of a start; that the loopback is alone then too is for managers/loopback-only.ts to see.
 */
export type NetworkAttachment =
  | { mode: 'none'; hostsFile?: string }
  | { mode: 'bridge' }
  /** Names that are not of the network are passed on to nobody, but where the container may ask outside. */
  | { mode: 'network'; networkId: string; aliases: readonly string[]; resolvesOutside?: true }

export interface PortSpec {
  containerPort: number
  hostIp: string
  /** 0 for any free one. */
  hostPort: number
}

export interface GpuSpec {
  count: number | 'all'
  deviceIds: readonly string[]
  capabilities: readonly string[]
  driver: string
}

/**
 * What keeps a bridge's containers from the engine's host. A bridge has an address there by default, by
 * which they reach whatever listens on all addresses.
 *
 * - `gateway_isolated`: the engine gives the bridge no address, and its containers no way to one (28 and later);
 * - `inhibit_ipv4`: the bridge gets no address;
 * - `none`: nothing does.
 */
export type NetworkIsolation = 'gateway_isolated' | 'inhibit_ipv4' | 'none'

export interface NetworkSpec {
  name: string
  /** IPv4 CIDR. */
  subnet: string
  /** Toward the host, of an internal network; `none` where absent. */
  isolation?: NetworkIsolation
  /** Without a route to the outside. */
  internal: boolean
  /** Its containers do not reach each other either. */
  isolated?: boolean
  labels: Labels
}
