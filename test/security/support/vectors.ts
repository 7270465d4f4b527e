/** What an attacker would like the engine to be asked for, by the row of SECURITY.md's table. */

export interface Vector {
  row: number
  /** As the engine's API names it. */
  field: string
  value: unknown
  /** Where the engine looks for it. */
  in: 'HostConfig' | 'body' | 'exec' | 'volume' | 'network' | 'build' | 'pull'
}

const ROOT_BIND = { Type: 'bind', Source: '/', Target: '/host' }
const CONTAINER = `container:${'a'.repeat(64)}`

const hostConfig = (row: number, field: string, ...values: readonly unknown[]): Vector[] =>
  values.map((value) => ({ row, field, value, in: 'HostConfig' }))
const body = (row: number, field: string, ...values: readonly unknown[]): Vector[] =>
  values.map((value) => ({ row, field, value, in: 'body' }))
const of = (place: Vector['in'], row: number, field: string, value: unknown): Vector => ({
  row,
  field,
  value,
  in: place,
})

export const VECTORS: readonly Vector[] = [
  ...hostConfig(1, 'Binds', ['/:/host'], ['/var/run/docker.sock:/var/run/docker.sock']),
  ...hostConfig(1, 'Mounts', [ROOT_BIND], [{ ...ROOT_BIND, Source: '/var/run/docker.sock' }]),
  ...hostConfig(3, 'Binds', ['/var/lib/co-never-made:/data']),
  ...hostConfig(4, 'VolumeDriver', 'local-persist'),
  ...hostConfig(4, 'Mounts', [
    {
      Type: 'volume',
      Target: '/x',
      VolumeOptions: { DriverConfig: { Name: 'local', Options: { type: 'none', o: 'bind', device: '/etc' } } },
    },
  ]),
  of('volume', 4, 'DriverOpts', { type: 'none', o: 'bind', device: '/etc' }),
  ...hostConfig(5, 'Mounts', [{ ...ROOT_BIND, BindOptions: { Propagation: 'rshared' } }]),
  ...hostConfig(5, 'VolumesFrom', ['a'.repeat(64)]),
  ...hostConfig(6, 'NetworkMode', 'host', CONTAINER),
  ...hostConfig(6, 'PidMode', 'host', CONTAINER),
  ...hostConfig(6, 'IpcMode', 'host', CONTAINER, 'shareable'),
  ...hostConfig(6, 'UTSMode', 'host'),
  ...hostConfig(6, 'UsernsMode', 'host'),
  ...hostConfig(6, 'CgroupnsMode', 'host'),
  ...hostConfig(7, 'Privileged', true),
  ...hostConfig(7, 'CapAdd', ['SYS_ADMIN'], ['ALL'], ['NET_RAW']),
  ...hostConfig(7, 'CapDrop', []),
  ...hostConfig(7, 'Devices', [{ PathOnHost: '/dev/sda', PathInContainer: '/dev/sda', CgroupPermissions: 'rwm' }]),
  ...hostConfig(7, 'DeviceCgroupRules', ['a *:* rwm']),
  ...hostConfig(7, 'GroupAdd', ['0']),
  of('exec', 7, 'Privileged', true),
  ...hostConfig(8, 'DeviceRequests', [{ Driver: 'nvidia', Count: -1, Capabilities: [['gpu']] }]),
  ...hostConfig(9, 'CgroupParent', '/'),
  ...hostConfig(9, 'Sysctls', { 'kernel.core_pattern': '|/x' }),
  ...hostConfig(9, 'Runtime', 'host-runtime'),
  ...hostConfig(9, 'SecurityOpt', ['seccomp=unconfined'], ['apparmor=unconfined'], ['label=disable']),
  ...hostConfig(9, 'MaskedPaths', []),
  ...hostConfig(9, 'ReadonlyPaths', []),
  ...hostConfig(9, 'OomKillDisable', true),
  ...hostConfig(9, 'OomScoreAdj', -1000),
  ...hostConfig(9, 'Isolation', 'process'),
  ...hostConfig(10, 'LogConfig', { Type: 'syslog', Config: { 'syslog-address': 'tcp://127.0.0.1:514' } }),
  ...hostConfig(11, 'RestartPolicy', { Name: 'always' }),
  ...hostConfig(11, 'AutoRemove', true),
  ...hostConfig(12, 'PublishAllPorts', true),
  ...hostConfig(12, 'PortBindings', { '80/tcp': [{ HostIp: '', HostPort: '8080' }] }),
  ...hostConfig(13, 'ExtraHosts', ['host.docker.internal:host-gateway']),
  ...hostConfig(13, 'Dns', ['8.8.8.8']),
  ...hostConfig(13, 'DnsOptions', ['use-vc']),
  ...hostConfig(13, 'DnsSearch', ['example.org']),
  ...hostConfig(13, 'Links', ['victim:db']),
  of('body', 14, 'NetworkingConfig', { EndpointsConfig: { foreign: { IPAddress: '10.0.0.2', Links: ['victim:db'] } } }),
  of('network', 14, 'CheckDuplicate', false),
  of('network', 17, 'Internal', false),
  of('network', 17, 'Driver', 'host'),
  of('network', 17, 'Options', { 'com.docker.network.bridge.host_binding_ipv4': '0.0.0.0' }),
  ...body(27, 'StopSignal', 'SIGKILL', 'SIGCONT'),
  ...body(27, 'Volumes', { '/etc': {} }),
  ...body(27, 'Tty', true),
  ...body(13, 'MacAddress', '02:42:ac:11:00:02'),
  ...body(6, 'Hostname', 'the-host').map((vector) => ({ ...vector, field: 'Domainname' })),
  of('build', 28, 'remote', 'http://127.0.0.1/context.tar'),
  of('build', 28, 'networkmode', 'host'),
  of('build', 28, 'extrahosts', 'host:127.0.0.1'),
  of('build', 28, 'cgroupparent', '/'),
  of('build', 28, 'outputs', 'type=local,dest=/'),
  of('pull', 30, 'fromSrc', 'http://127.0.0.1/image.tar'),
  of('body', 31, 'WorkingDir', '/proc/self/fd/8'),
  ...hostConfig(38, 'StorageOpt', { size: '1T' }),
  ...hostConfig(39, 'MemorySwappiness', 100),
  ...hostConfig(40, 'CpuRealtimeRuntime', 950_000),
  ...hostConfig(40, 'BlkioWeight', 1000),
]

/** How the engine would be asked for it, were nothing in between. */
export function asked(vector: Vector): { path: string; body: unknown } {
  const { field, value } = vector
  switch (vector.in) {
    case 'HostConfig':
      return { path: '/containers/create', body: { HostConfig: { [field]: value } } }
    case 'body':
      return { path: '/containers/create', body: { [field]: value } }
    case 'exec':
      return { path: `/containers/${'a'.repeat(64)}/exec`, body: { [field]: value } }
    case 'volume':
      return { path: '/volumes/create', body: { [field]: value } }
    case 'network':
      return { path: '/networks/create', body: { [field]: value } }
    case 'build':
      return { path: `/build?${field}=${encodeURIComponent(String(value))}`, body: undefined }
    case 'pull':
      return { path: `/images/create?${field}=${encodeURIComponent(String(value))}`, body: undefined }
  }
}

/** A field's name as callers may try to write it. */
export function spellings(field: string): string[] {
  const words = field.match(/[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+/g) ?? [field]
  const snake = words.join('_').toLowerCase()
  return [
    ...new Set([
      field,
      field.toLowerCase(),
      field.toUpperCase(),
      field.charAt(0).toLowerCase() + field.slice(1),
      snake,
      snake.replaceAll('_', '-'),
      // The Kelvin sign and the long s fold into k and s for Go's decoder.
      field.replaceAll('k', '\u212a').replaceAll('s', '\u017f'),
    ]),
  ]
}
