/**
 * What of a request to the engine may never be sent, whatever a caller says. Everything is forbidden but
 * what is listed here: paths, queries, fields of bodies, and the values of those that matter.
 */
import { GRANTABLE_CAPABILITIES } from '../../../src/engine/spec.ts'
import type { EngineRequest } from '../../support/socket-proxy.ts'
import { fieldsOf } from './json-fields.ts'

export interface Allowance {
  /** Host folders that an operator allows, and a caller may therefore mount. */
  hostRoots?: readonly string[]
  /** Networks of the engine's own that a profile allows, beside none. */
  networks?: readonly string[]
  /** The cgroup that the operator puts all containers and builds under. */
  cgroupParent?: string
}

type Rule = (value: unknown, allowance: Allowance) => boolean
type Rules = Readonly<Record<string, Rule>>

const ID = '[0-9a-f]{64}'
const REFERENCE = '[A-Za-z0-9][A-Za-z0-9._:/@-]*'
const NAME = '[A-Za-z0-9][A-Za-z0-9_.-]*'

const is =
  (...values: readonly unknown[]): Rule =>
  (value) =>
    values.some((allowed) => JSON.stringify(allowed) === JSON.stringify(value))
const text: Rule = (value) => typeof value === 'string'
const count: Rule = (value) => typeof value === 'number' && value > 0
const matches =
  (pattern: RegExp): Rule =>
  (value) =>
    typeof value === 'string' && pattern.test(value)
const CAPABILITIES: readonly string[] = GRANTABLE_CAPABILITIES
const TMPFS =
  /^rw,nosuid,nodev,(?:no)?exec,(?:mode=[0-7]{3,4},)?size=\d+(?:,mode=[0-7]{3,4})?(?:,uid=\d+,gid=\d+)?(?:,nr_inodes=\d+)?$/

const isHostPath: Rule = (value, { hostRoots = [] }) =>
  typeof value === 'string' &&
  !value.split('/').includes('..') &&
  hostRoots.some((root) => value === root || value.startsWith(`${root}/`))

const isCgroupParent: Rule = (value, { cgroupParent }) => cgroupParent !== undefined && value === cgroupParent

/**
 * The file of hosts of a container without a network: a mount that the service adds itself, byte for byte.
 * What stands in a text of a caller's has its quotes escaped, and is none.
 */
const HOSTS_MOUNT =
  /,?\{"Type":"bind","Source":"\/var\/lib\/docker\/volumes\/toolbox_[0-9a-f_]+\/_data\/hosts","Target":"\/etc\/hosts","ReadOnly":true,"BindOptions":\{"Propagation":"rslave"\}\}(?=\])/

/** By dotted path in lower case; `*` is any item, `?` any key of a map. */
const CONTAINER: Rules = {
  image: matches(new RegExp(`^sha256:${ID}$`)),
  'entrypoint.*': text,
  entrypoint: is([]),
  'cmd.*': text,
  cmd: is([]),
  user: text,
  workingdir: (value) => typeof value === 'string' && !/^\/(?:proc|sys|dev)(?:\/|$)/.test(value),
  'env.*': text,
  env: is([]),
  'labels.?': text,
  labels: is({}),
  tty: is(false),
  openstdin: is(true, false),
  stdinonce: is(true, false),
  attachstdin: is(true, false),
  attachstdout: is(true, false),
  attachstderr: is(true, false),
  'healthcheck.test.*': text,
  'healthcheck.interval': count,
  'healthcheck.timeout': count,
  'healthcheck.retries': count,
  stopsignal: is('SIGTERM'),
  networkdisabled: is(true),
  'hostconfig.memory': count,
  'hostconfig.memoryswap': count,
  'hostconfig.nanocpus': count,
  'hostconfig.pidslimit': count,
  'hostconfig.ulimits.*.name': is('nofile', 'core', 'fsize'),
  'hostconfig.ulimits.*.soft': (value) => typeof value === 'number' && value >= 0,
  'hostconfig.ulimits.*.hard': (value) => typeof value === 'number' && value >= 0,
  'hostconfig.readonlyrootfs': is(true, false),
  'hostconfig.capdrop.*': is('ALL'),
  'hostconfig.capadd.*': (value) => CAPABILITIES.includes(String(value)),
  'hostconfig.capadd': is([]),
  'hostconfig.securityopt.*': is('no-new-privileges'),
  'hostconfig.privileged': is(false),
  'hostconfig.init': is(true),
  'hostconfig.autoremove': is(false),
  'hostconfig.restartpolicy.name': is('no'),
  'hostconfig.ipcmode': is('private'),
  'hostconfig.cgroupnsmode': is('private'),
  'hostconfig.shmsize': count,
  // Killed before all of the host's own.
  'hostconfig.oomscoreadj': is(500),
  'hostconfig.cgroupparent': isCgroupParent,
  'hostconfig.logconfig.type': is('local'),
  'hostconfig.logconfig.config.max-size': text,
  'hostconfig.logconfig.config.max-file': text,
  'hostconfig.logconfig.config.compress': is('false'),
  'hostconfig.tmpfs.?': matches(TMPFS),
  'hostconfig.tmpfs': is({}),
  'hostconfig.mounts': is([]),
  'hostconfig.mounts.*.type': is('volume', 'bind'),
  'hostconfig.mounts.*.source': (value, allowance) =>
    matches(new RegExp(`^${NAME}$`))(value, allowance) || isHostPath(value, allowance),
  'hostconfig.mounts.*.target': (value) =>
    typeof value === 'string' && !/^\/(?:$|(?:proc|sys|dev)(?:\/|$))/.test(value) && !value.split('/').includes('..'),
  'hostconfig.mounts.*.readonly': is(true, false),
  'hostconfig.mounts.*.bindoptions.propagation': is('rprivate'),
  'hostconfig.mounts.*.volumeoptions.nocopy': is(true),
  'hostconfig.networkmode': (value, { networks = [] }) =>
    is('none', ...networks)(value, {}) || matches(new RegExp(`^${ID}$`))(value, {}),
  'hostconfig.publishallports': is(false),
  'hostconfig.portbindings': is({}),
  'hostconfig.dns.*': is('127.0.0.1'),
  'hostconfig.dnssearch.*': is('.'),
  'hostconfig.dnsoptions.*': is('ndots:1', 'timeout:1', 'attempts:2'),
  'hostconfig.sysctls.net.ipv6.conf.all.disable_ipv6': is('1'),
  'networkingconfig.endpointsconfig.?.aliases.*': matches(new RegExp(`^${NAME}$`)),
  'networkingconfig.endpointsconfig.?.aliases': is([]),
}

const NETWORK: Rules = {
  name: matches(new RegExp(`^${NAME}$`)),
  checkduplicate: is(true),
  driver: is('bridge'),
  internal: is(true),
  enableipv6: is(false),
  'ipam.driver': is('default'),
  'ipam.config.*.subnet': matches(/^10\.\d+\.\d+\.\d+\/\d+$/),
  options: is({}),
  'options.com.docker.network.bridge.enable_icc': is('false'),
  'options.com.docker.network.bridge.inhibit_ipv4': is('true'),
  'options.com.docker.network.bridge.gateway_mode_ipv4': is('isolated'),
  'options.com.docker.network.bridge.name': matches(/^[a-z0-9-]{1,15}$/),
  'labels.?': text,
  labels: is({}),
}

const VOLUME: Rules = {
  name: matches(new RegExp(`^${NAME}$`)),
  driver: is('local'),
  'labels.?': text,
  labels: is({}),
}

const EXEC: Rules = {
  attachstdin: is(true, false),
  attachstdout: is(true),
  attachstderr: is(true),
  tty: is(false),
  'cmd.*': text,
  user: text,
  'env.*': text,
  env: is([]),
}

const COMMIT: Rules = {
  'labels.?': text,
  'entrypoint.*': text,
  entrypoint: is([]),
  'cmd.*': text,
  cmd: is([]),
  user: text,
  workingdir: text,
  'env.*': text,
  env: is([]),
  'healthcheck.test.*': is('NONE'),
}

/** A call that the service makes. */
interface Call {
  method: string
  path: RegExp
  /** Names in the query string, and what each may be. */
  query?: Readonly<Record<string, RegExp | Rule>>
  /** Fields of a JSON body; absent: there is none, or dockerode's empty object. */
  body?: Rules
  /** A body of bytes. */
  bytes?: true
}

const YES = /^(?:true|false)$/
const ANY = /^[\s\S]*$/
const path = (pattern: string) => new RegExp(`^(?:/v1\\.\\d+)?${pattern}$`)

const CALLS: readonly Call[] = [
  { method: 'GET', path: path('/(?:version|info|_ping)') },
  { method: 'GET', path: path('/events'), query: { filters: ANY, since: /^\d+$/, until: /^\d+$/ } },
  { method: 'GET', path: path('/containers/json'), query: { all: YES, filters: ANY } },
  { method: 'GET', path: path(`/containers/${ID}/json`) },
  {
    method: 'GET',
    path: path(`/containers/${ID}/logs`),
    query: { stdout: YES, stderr: YES, follow: YES, timestamps: YES, since: /^[\d.]*$/, tail: /^\w+$/ },
  },
  { method: 'GET', path: path(`/containers/${ID}/stats`), query: { stream: YES, 'one-shot': YES } },
  {
    method: 'POST',
    path: path('/containers/create'),
    query: { name: new RegExp(`^${NAME}$`) },
    body: CONTAINER,
  },
  { method: 'POST', path: path(`/containers/${ID}/(?:start|pause|unpause)`) },
  { method: 'POST', path: path(`/containers/${ID}/wait`), query: { condition: /^[a-z-]+$/ } },
  { method: 'POST', path: path(`/containers/${ID}/rename`), query: { name: new RegExp(`^${NAME}$`) } },
  { method: 'POST', path: path(`/containers/${ID}/stop`), query: { t: /^[\d.]+$/ } },
  { method: 'POST', path: path(`/containers/${ID}/kill`), query: { signal: /^SIG[A-Z]+$/ } },
  {
    method: 'POST',
    path: path(`/containers/${ID}/attach`),
    query: { stream: YES, stdout: YES, stderr: YES, stdin: YES },
  },
  { method: 'POST', path: path(`/containers/${ID}/exec`), body: EXEC },
  { method: 'POST', path: path(`/exec/${ID}/start`), body: { detach: is(false), tty: is(false) } },
  { method: 'GET', path: path(`/exec/${ID}/json`) },
  { method: 'DELETE', path: path(`/containers/${ID}`), query: { force: YES, v: YES } },
  { method: 'HEAD', path: path(`/containers/${ID}/archive`), query: { path: /^\// } },
  { method: 'GET', path: path(`/containers/${ID}/archive`), query: { path: /^\// } },
  {
    method: 'PUT',
    path: path(`/containers/${ID}/archive`),
    query: { path: /^\//, noOverwriteDirNonDir: YES },
    bytes: true,
  },
  {
    method: 'POST',
    path: path('/commit'),
    query: { container: new RegExp(`^${ID}$`), repo: new RegExp(`^${REFERENCE}$`), tag: /^[\w.-]+$/, pause: /^true$/ },
    body: COMMIT,
  },
  { method: 'GET', path: path('/images/json'), query: { filters: ANY } },
  { method: 'GET', path: path(`/images/${REFERENCE}/json`) },
  {
    method: 'POST',
    path: path('/images/create'),
    query: { fromImage: new RegExp(`^${REFERENCE}$`), tag: /^[\w.-]+$/ },
  },
  {
    method: 'POST',
    path: path('/build'),
    query: {
      t: new RegExp(`^${REFERENCE}$`),
      labels: ANY,
      rm: /^true$/,
      forcerm: /^true$/,
      dockerfile: /^Dockerfile$/,
      networkmode: /^none$/,
      memory: /^\d+$/,
      memswap: /^\d+$/,
      cpuquota: /^\d+$/,
      cpuperiod: /^\d+$/,
      shmsize: /^\d+$/,
      ulimits: ANY,
      cgroupparent: isCgroupParent,
    },
    bytes: true,
  },
  { method: 'DELETE', path: path(`/images/${REFERENCE}`) },
  { method: 'GET', path: path('/networks'), query: { filters: ANY } },
  { method: 'GET', path: path(`/networks/${ID}`) },
  { method: 'POST', path: path('/networks/create'), body: NETWORK },
  {
    method: 'POST',
    path: path(`/networks/${ID}/(?:dis)?connect`),
    body: {
      container: matches(new RegExp(`^${ID}$`)),
      force: is(true),
      'endpointconfig.aliases.*': matches(new RegExp(`^${NAME}$`)),
    },
  },
  { method: 'DELETE', path: path(`/networks/${ID}`) },
  { method: 'GET', path: path('/volumes'), query: { filters: ANY } },
  { method: 'GET', path: path(`/volumes/${NAME}`) },
  { method: 'POST', path: path('/volumes/create'), body: VOLUME },
  { method: 'DELETE', path: path(`/volumes/${NAME}`) },
]

/** What of a recorded request is not allowed, one line each; empty where all of it is. */
export function forbiddenIn(request: EngineRequest, allowance: Allowance = {}): string[] {
  const mark = request.path.indexOf('?')
  const target = mark === -1 ? request.path : request.path.slice(0, mark)
  const query = mark === -1 ? '' : request.path.slice(mark + 1)
  const said = `${request.method} ${request.path.slice(0, 120)}`
  const call = CALLS.find((known) => known.method === request.method && known.path.test(target))
  if (call === undefined) return [`${said}: no call of the service's`]
  const found: string[] = []
  for (const [name, value] of new URLSearchParams(query)) {
    const rule = call.query?.[name]
    const isAllowed = rule instanceof RegExp ? rule.test(value) : rule?.(value, allowance)
    if (!isAllowed) found.push(`${said}: query ${name}=${value.slice(0, 80)}`)
  }
  if (/^x-registry-(?:auth|config)\s*:/im.test(request.fields)) found.push(`${said}: credentials of a registry`)
  if (call.bytes) return found
  return [...found, ...forbiddenFields(said, request, call.body ?? {}, allowance)]
}

/** The same for all requests of a recording. */
export function forbidden(requests: readonly EngineRequest[], allowance?: Allowance): string[] {
  return requests.flatMap((request) => forbiddenIn(request, allowance))
}

function forbiddenFields(said: string, request: EngineRequest, rules: Rules, allowance: Allowance): string[] {
  if (request.bodyBytes > request.body.length) return [`${said}: a body of which not all was kept`]
  const body = withoutHosts(request.body.toString('utf8'))
  if (body === '') return []
  try {
    return fieldsOf(body).flatMap(({ path: at, value }) => {
      // An empty body is dockerode's; of an empty list or object nothing is asked.
      if (at.length === 0 && is({})(value, allowance)) return []
      const rule = ruleFor(rules, at)
      if (rule?.(value, allowance)) return []
      return [`${said}: ${at.join('.')} = ${JSON.stringify(value).slice(0, 80)}`]
    })
  } catch (error) {
    return [`${said}: a body that is no JSON: ${String(error)}`]
  }
}

/** Such a mount counts as the service's own beside no network alone. */
function withoutHosts(body: string): string {
  return body.includes('"NetworkDisabled":true') && body.includes('"NetworkMode":"none"')
    ? body.replace(HOSTS_MOUNT, '')
    : body
}

/** Keys of maps may be anything, dots and all, so they are taken as a whole. */
function ruleFor(rules: Rules, at: readonly string[]): Rule | undefined {
  const exact = rules[at.join('.')]
  if (exact !== undefined) return Object.hasOwn(rules, at.join('.')) ? exact : undefined
  for (let place = 0; place < at.length; place++) {
    const pattern = [...at.slice(0, place), '?', ...at.slice(place + 1)].join('.')
    if (Object.hasOwn(rules, pattern)) return rules[pattern]
  }
  return undefined
}
