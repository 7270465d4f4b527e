/** From a profile's egress to the proxy by which its containers go out: pure. The proxy is squid. */
import type { ContainerPlan } from './container-policy.ts'
import type { Egress } from './profiles.ts'

/** The proxy's name on the network of its session, by profile. */
export function egressAlias(profile: string): string {
  return `egress-${profile}`
}

export const EGRESS_PORT = 3128

/** Addresses that are not of the public internet (RFC 6890 and multicast), metadata services among them. */
const NOT_PUBLIC = [
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24'],
  ...['192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24'],
  ...['224.0.0.0/3', '::/0'],
]

/**
 * Squid's configuration. Only the session's own containers are served, only names of the list (never an
 * address), and only at ports of the list; a name that is not on the list is not even looked up. Where one of
 * a name's addresses is not public, and in no range that the operator opened, all of the name is refused.
 */
export function egressConfig({ hosts, ports, privateRanges }: Egress, sessionSubnet: string): string {
  return `${[
    `http_port ${EGRESS_PORT}`,
    `acl session src ${sessionSubnet}`,
    `acl hosts dstdomain -n ${hosts.map(domain).join(' ')}`,
    `acl ports port ${ports.join(' ')}`,
    'acl ftp proto FTP',
    ...(privateRanges.length === 0 ? [] : [`acl opened dst ${privateRanges.join(' ')}`]),
    `acl not_public dst ${NOT_PUBLIC.join(' ')}`,
    'http_access deny manager',
    'http_access deny !session',
    'http_access deny !hosts',
    'http_access deny !ports',
    'http_access deny ftp',
    ...(privateRanges.length === 0 ? [] : ['http_access allow opened']),
    'http_access deny not_public',
    'http_access allow all',

    // What passes is neither kept nor marked.
    'cache deny all',
    'cache_mem 8 MB',
    'memory_pools off',
    'via off',
    'forwarded_for delete',
    'httpd_suppress_version_string on',
    'visible_hostname egress',
    // Names as they are given: no domain is added to one without a dot.
    'dns_defnames off',
    'connect_timeout 10 seconds',
    'dns_timeout 10 seconds',
    'shutdown_lifetime 1 second',
    'max_filedescriptors 4096',

    // One line for each request: when, who, what became of it, and the host; no path and no query.
    'logformat egress %ts.%03tu %>a %Ss/%03>Hs %rm %>rd:%>rP %<st',
    'access_log stdio:/dev/stdout egress',
    // Its own log says what it cannot go on without.
    'cache_log /dev/stderr',
    'debug_options ALL,0',
    'cache_store_log none',
    'pid_filename none',
    'netdb_filename none',
    'pinger_enable off',
    'coredump_dir none',
  ].join('\n')}\n`
}

/** Squid's form of "all beneath a name" has no asterisk. */
function domain(host: string): string {
  return host.startsWith('*.') ? host.slice(1) : host
}

/** The variables by which programs find their proxy, in both cases: some read only one of them. */
function proxyEnvironment(profile: string): Record<string, string> {
  const proxy = `http://${egressAlias(profile)}:${EGRESS_PORT}`
  const variables = { HTTP_PROXY: proxy, HTTPS_PROXY: proxy, NO_PROXY: 'localhost,127.0.0.1' }
  return Object.fromEntries(
    Object.entries(variables).flatMap(([name, value]) => [
      [name, value],
      [name.toLowerCase(), value],
    ]),
  )
}

/** A container's plan with the variables of its proxy; what the caller says of them holds: it breaks only itself. */
export function throughProxy(plan: ContainerPlan, profile: string): ContainerPlan {
  return { ...plan, environment: { ...proxyEnvironment(profile), ...plan.environment } }
}

const MIB = 1024 * 1024
/** Where its configuration goes; nothing in the image is there. */
const FOLDER = '/run/egress'

/** The proxy's container: nothing to write but its configuration, no capability, nobody's user. */
export function planEgress(config: string, shell: string, mounts: ContainerPlan['mounts']): ContainerPlan {
  return {
    entrypoint: [
      shell,
      'sh',
      '-c',
      `printf %s "$CONFIG" >${FOLDER}/squid.conf && exec /usr/sbin/squid -N -f ${FOLDER}/squid.conf`,
    ],
    command: [],
    environment: { CONFIG: config },
    // The user "proxy" of Debian's package.
    user: '13:13',
    openStdin: false,
    resources: { memoryBytes: 96 * MIB, cpus: 0.5, pids: 32, openFiles: { soft: 4096, hard: 4096 } },
    sandbox: {
      readonlyRoot: true,
      capabilities: [],
      tmpfs: [{ target: FOLDER, bytes: MIB, owner: { uid: 13, gid: 13 } }],
    },
    mounts,
    ports: [],
  }
}
