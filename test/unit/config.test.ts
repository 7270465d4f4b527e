import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { availableParallelism, homedir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type Config, loadConfig, readSetting } from '../../src/config.ts'
import { ConfigError } from '../../src/errors.ts'
import { SERVICE, STRICT, WORKSPACE } from '../../src/policy/profiles.ts'
import { temporaryFolder } from './support/folders.ts'
import { thrown } from './support/streams.ts'

const NO_FILE = '/nonexistent/.env'
const load = (environment: NodeJS.ProcessEnv = {}) => loadConfig(environment, NO_FILE)

function refusal(environment: NodeJS.ProcessEnv): ConfigError {
  const error = thrown(() => load(environment))
  expect(error).toBeInstanceOf(ConfigError)
  return error as ConfigError
}

describe('loadConfig', () => {
  it('has these defaults', () => {
    expect(load()).toMatchObject({
      host: '127.0.0.1',
      port: 8086,
      loopback: true,
      keysFile: undefined,
      allowedHosts: [],
      maxConnections: 1024,
      maxStreams: 256,
      dockerHost: 'unix:///var/run/docker.sock',
      dockerCertPath: undefined,
      dataDir: './data',
      logLevel: 'info',
      sessionSubnets: '10.213.0.0/16',
      maxConcurrentRuns: 2 * availableParallelism(),
      queueLimit: 10_000,
      allowedImages: ['*'],
      allowedHostRoots: [],
      sharedVolumes: [],
      allowBuild: true,
      drainSeconds: 30,
      retentionDays: 7,
      poolMax: 8,
      poolMegabytes: 2048,
      spoolMegabytes: 2048,
      toolboxBinary: undefined,
      credentials: new Map(),
      workerEnvironmentPrefixes: [],
      workerLimits: { workers: undefined, memoryBytes: undefined, cpus: undefined },
      greeting: false,
    } satisfies Partial<Config>)
  })

  it('cannot be changed afterwards', () => {
    expect(Object.isFrozen(load())).toBe(true)
  })

  it.each([
    ['CO_HOST', '::1', { host: '::1' }],
    ['CO_HOST', 'localhost', { host: 'localhost' }],
    ['CO_PORT', '9000', { port: 9000 }],
    ['CO_PORT', '0', { port: 0 }],
    ['CO_ALLOWED_HOSTS', 'API.example.org., other', { allowedHosts: ['api.example.org', 'other'] }],
    ['CO_ALLOWED_HOSTS', '*', { allowedHosts: ['*'] }],
    ['CO_MAX_CONNECTIONS', '16', { maxConnections: 16 }],
    ['CO_MAX_STREAMS', '1', { maxStreams: 1 }],
    ['DOCKER_HOST', 'tcp://engine:2375', { dockerHost: 'tcp://engine:2375' }],
    ['CO_DATA_DIR', '/var/lib/co', { dataDir: '/var/lib/co' }],
    ['CO_LOG_LEVEL', 'debug', { logLevel: 'debug' }],
    ['CO_LOG_LEVEL', 'silent', { logLevel: 'silent' }],
    ['CO_SESSION_SUBNETS', '172.16.0.0/12', { sessionSubnets: '172.16.0.0/12' }],
    ['CO_SESSION_SUBNETS', '10.0.0.0/8', { sessionSubnets: '10.0.0.0/8' }],
    ['CO_SESSION_SUBNETS', '10.1.2.0/27', { sessionSubnets: '10.1.2.0/27' }],
    ['CO_MAX_CONCURRENT_RUNS', '1', { maxConcurrentRuns: 1 }],
    ['CO_QUEUE_LIMIT', '0', { queueLimit: 0 }],
    ['CO_ALLOWED_IMAGES', 'python:*, alpine ,,', { allowedImages: ['python:*', 'alpine'] }],
    ['CO_ALLOWED_IMAGES', 'registry.example.com:5000/**', { allowedImages: ['registry.example.com:5000/**'] }],
    ['CO_CGROUP_PARENT', '/containers/agents', { cgroupParent: '/containers/agents' }],
    ['CO_CGROUP_PARENT', 'agents.slice', { cgroupParent: 'agents.slice' }],
    ['CO_ALLOW_BUILD', 'false', { allowBuild: false }],
    ['CO_ALLOW_BUILD', 'TRUE', { allowBuild: true }],
    ['CO_DRAIN_SECONDS', '0', { drainSeconds: 0 }],
    ['CO_KEYS_FILE', 'keys.json', { keysFile: 'keys.json' }],
    ['CO_TOOLBOX_BINARY', '/bin/busybox', { toolboxBinary: '/bin/busybox' }],
    ['CO_MAX_WORKERS', '0', { workerLimits: { workers: 0 } }],
    ['CO_MAX_WORKERS', '20', { workerLimits: { workers: 20, memoryBytes: undefined, cpus: undefined } }],
    ['CO_WORKERS_MEMORY', '16g', { workerLimits: { memoryBytes: 16 * 1024 ** 3 } }],
    ['CO_WORKERS_MEMORY', '1.5TB', { workerLimits: { memoryBytes: 1.5 * 1024 ** 4 } }],
    ['CO_WORKERS_CPUS', '8', { workerLimits: { cpus: 8 } }],
    ['CO_WORKERS_CPUS', '0.5', { workerLimits: { cpus: 0.5 } }],
  ])('takes %s=%s', (name, value, expected) => {
    expect(load({ [name]: value })).toMatchObject(expected)
  })

  it.each([
    ['CO_PORT', '65536'],
    ['CO_PORT', '-1'],
    ['CO_PORT', '80a'],
    ['CO_PORT', '1e3'],
    ['CO_PORT', ' 80'],
    ['CO_PORT', '8086.5'],
    ['CO_ALLOWED_HOSTS', 'https://api.example.org'],
    ['CO_ALLOWED_HOSTS', 'api.example.org:8086'],
    ['CO_ALLOWED_HOSTS', '*.example.org'],
    ['CO_MAX_CONNECTIONS', '15'],
    ['CO_MAX_STREAMS', '0'],
    ['CO_LOG_LEVEL', 'verbose'],
    ['CO_SESSION_SUBNETS', '10.213.0.0'],
    ['CO_SESSION_SUBNETS', '10.213.0.0/28'],
    ['CO_SESSION_SUBNETS', '10.213.0.0/7'],
    ['CO_SESSION_SUBNETS', '10.213.0/16'],
    ['CO_SESSION_SUBNETS', '10.256.0.0/16'],
    ['CO_SESSION_SUBNETS', '999.1.1.1/16'],
    ['CO_SESSION_SUBNETS', 'fd00::/64'],
    ['CO_MAX_CONCURRENT_RUNS', '0'],
    ['CO_MAX_CONCURRENT_RUNS', '10001'],
    ['CO_ALLOWED_IMAGES', 'python 3'],
    ['CO_ALLOWED_IMAGES', 'alpine,python:3?'],
    ['CO_CGROUP_PARENT', '/'],
    ['CO_CGROUP_PARENT', 'containers'],
    ['CO_CGROUP_PARENT', '/a/../b'],
    ['CO_CGROUP_PARENT', '/a/.'],
    ['CO_CGROUP_PARENT', '../x.slice'],
    ['CO_CGROUP_PARENT', '/a b'],
    ['CO_QUEUE_LIMIT', '-1'],
    ['CO_QUEUE_LIMIT', '1000001'],
    ['CO_ALLOW_BUILD', 'maybe'],
    ['CO_ALLOW_UNAUTHENTICATED', 'ja'],
    ['CO_DRAIN_SECONDS', '3601'],
    ['CO_DRAIN_SECONDS', 'soon'],
    ['CO_ALLOWED_HOST_ROOTS', 'relative'],
    ['CO_ALLOWED_HOST_ROOTS', '/'],
    ['CO_ALLOWED_HOST_ROOTS', '/nonexistent/folder'],
    ['CO_ALLOWED_HOST_ROOTS', '/tmp,/nonexistent/folder'],
    ['CO_CONFIG', '/nonexistent/config.yaml'],
    ['CO_MAX_WORKERS', '-1'],
    ['CO_MAX_WORKERS', '1.5'],
    ['CO_MAX_WORKERS', '100001'],
    ['CO_MAX_WORKERS', 'many'],
    ['CO_WORKERS_MEMORY', '16'],
    ['CO_WORKERS_MEMORY', '16 g'],
    ['CO_WORKERS_MEMORY', '-1g'],
    ['CO_WORKERS_MEMORY', 'all'],
    ['CO_WORKERS_CPUS', '-1'],
    ['CO_WORKERS_CPUS', '1e3'],
    ['CO_WORKERS_CPUS', '8,5'],
    ['CO_WORKERS_CPUS', '.5'],
    ['CO_WORKERS_CPUS', 'all'],
  ])('refuses %s=%s in one line that names it', (name, value) => {
    const { message } = refusal({ [name]: value })
    expect(message.startsWith(`${name}=`)).toBe(true)
    expect(message).not.toContain('\n')
    // Beside the value, it says what would do.
    expect(message.length).toBeGreaterThan(`${name}=${value}: `.length)
  })

  it('takes an empty variable for none', () => {
    expect(load({ CO_PORT: '', CO_HOST: '', CO_ALLOW_BUILD: '', CO_ALLOWED_IMAGES: '' })).toMatchObject({
      port: 8086,
      host: '127.0.0.1',
      allowBuild: true,
      allowedImages: ['*'],
    })
  })

  it('pays no heed to variables of others', () => {
    expect(load({ PATH: '/bin', CONTAINER_HOST: 'x', PORT: '1' }).port).toBe(8086)
  })

  it.each([
    ['CO_ALOWED_IMAGES', 'CO_ALLOWED_IMAGES'],
    ['CO_KEY_FILE', 'CO_KEYS_FILE'],
    ['CO_ALLOW_UNAUTHENTICATE', 'CO_ALLOW_UNAUTHENTICATED'],
  ])('refuses %s, which is no setting, and names %s', (name, meant) => {
    const { message } = refusal({ [name]: 'hush-4711' })
    expect(message).toContain(name)
    expect(message).toContain(meant)
    expect(message).not.toContain('hush-4711')
    expect(load({ [name]: '' }).port).toBe(8086)
  })

  it('takes a variable that a credential set is made of', async () => {
    const path = join(await temporaryFolder(), 'config.yaml')
    await writeFile(path, 'credentials: {a: {environment: {CO_TOKEN: null}, git: {token: {variable: CO_GIT}}}}')
    expect(load({ CO_TOKEN: 'x', CO_GIT: 'y', CO_CONFIG: path }).credentials.size).toBe(1)
  })

  it('reads one setting by itself for commands', () => {
    const broken = { CO_PORT: 'many', CO_KEYS_FILE: '/keys.json', CO_DATA_DIR: '' }
    expect(readSetting('CO_KEYS_FILE', broken, NO_FILE)).toBe('/keys.json')
    expect(readSetting('CO_DATA_DIR', broken, NO_FILE)).toBe('./data')
    expect(readSetting('CO_KEYS_FILE', {}, NO_FILE)).toBeUndefined()
  })

  it('greets whom npm start has started it for', () => {
    expect(load({ npm_lifecycle_event: 'start' }).greeting).toBe(true)
    expect(load({ npm_lifecycle_event: 'test' }).greeting).toBe(false)
  })
})

describe('an address beyond loopback', () => {
  it.each(['0.0.0.0', '::', '192.168.1.5', 'example.com', '127.0.0.1.example.com'])(
    '%s is refused without a file of keys, unless the operator says in words that callers are kept out',
    (CO_HOST) => {
      const { message } = refusal({ CO_HOST })
      expect(message).toContain(`CO_HOST=${CO_HOST}`)
      expect(message).toContain('CO_ALLOW_UNAUTHENTICATED')
      expect(message).toContain('CO_KEYS_FILE')
      expect(load({ CO_HOST, CO_KEYS_FILE: 'keys.json' })).toMatchObject({ host: CO_HOST, loopback: false })
      expect(refusal({ CO_HOST, CO_ALLOW_UNAUTHENTICATED: 'false' }).message).toContain('CO_HOST')
      expect(load({ CO_HOST, CO_ALLOW_UNAUTHENTICATED: 'true' }).host).toBe(CO_HOST)
    },
  )

  it('builds nothing from requests unless it is told to', () => {
    const open = { CO_HOST: '0.0.0.0', CO_ALLOW_UNAUTHENTICATED: 'true' }
    expect(load(open).allowBuild).toBe(false)
    expect(load({ ...open, CO_ALLOW_BUILD: 'true' }).allowBuild).toBe(true)
  })
})

describe('TLS to the engine', () => {
  it('is used where DOCKER_TLS_VERIFY says so, as every Docker tool reads it', () => {
    expect(load({ DOCKER_TLS_VERIFY: '1', DOCKER_CERT_PATH: '/certs' }).dockerCertPath).toBe('/certs')
    expect(load({ DOCKER_TLS_VERIFY: '1', DOCKER_CONFIG: '/conf' }).dockerCertPath).toBe('/conf')
    expect(load({ DOCKER_TLS_VERIFY: '1' }).dockerCertPath).toBe(join(homedir(), '.docker'))
    expect(load({ DOCKER_CERT_PATH: '/certs' }).dockerCertPath).toBeUndefined()
    expect(load({ DOCKER_TLS_VERIFY: '', DOCKER_CERT_PATH: '/certs' }).dockerCertPath).toBeUndefined()
  })
})

describe('allowed host roots', () => {
  it('are told by where they really are', async () => {
    const folder = await temporaryFolder()
    await mkdir(join(folder, 'real'))
    await symlink(join(folder, 'real'), join(folder, 'link'))
    const { allowedHostRoots } = load({ CO_ALLOWED_HOST_ROOTS: `${join(folder, 'link')}/, ${folder}` })
    expect(allowedHostRoots).toEqual([join(folder, 'real'), folder])
  })

  it('are never the whole host, by whatever spelling', async () => {
    const folder = await temporaryFolder()
    await symlink('/', join(folder, 'root'))
    for (const root of ['/', '//', '/.', '/tmp/..', join(folder, 'root')]) {
      expect(refusal({ CO_ALLOWED_HOST_ROOTS: root }).message, root).toContain('CO_ALLOWED_HOST_ROOTS')
    }
  })
})

describe('an .env file', () => {
  async function envFile(content: string): Promise<string> {
    const path = join(await temporaryFolder(), '.env')
    await writeFile(path, content)
    return path
  }

  it('is read, with its comments and quotes', async () => {
    const path = await envFile('# comment\nCO_PORT=9001\nCO_DATA_DIR="/var/lib/my data"\n#CO_LOG_LEVEL=debug\n')
    expect(loadConfig({}, path)).toMatchObject({ port: 9001, dataDir: '/var/lib/my data', logLevel: 'info' })
  })

  it('gives way to the environment', async () => {
    expect(loadConfig({ CO_PORT: '9002' }, await envFile('CO_PORT=9001'))).toMatchObject({ port: 9002 })
  })

  it('is refused like the environment where a value is bad', async () => {
    const path = await envFile('CO_PORT=many')
    expect(thrown(() => loadConfig({}, path))).toMatchObject({ message: expect.stringMatching(/^CO_PORT=many: /) })
  })
})

describe('the file that CO_CONFIG names', () => {
  async function withFile(content: string): Promise<NodeJS.ProcessEnv> {
    const path = join(await temporaryFolder(), 'config.yaml')
    await writeFile(path, content)
    return { CO_CONFIG: path }
  }

  it('may be missing: then there are the built-in profiles', () => {
    expect([...load().profiles]).toEqual([
      ['strict', STRICT],
      ['service', SERVICE],
      ['workspace', WORKSPACE],
    ])
  })

  it.each(['', '# nothing but a comment\n', '{}'])('may be empty: %j', async (content) => {
    expect([...load(await withFile(content)).profiles.keys()]).toEqual(['strict', 'service', 'workspace'])
  })

  it('adds profiles, each with what it changes of the one that it extends', async () => {
    const { profiles, sharedVolumes } = load(
      await withFile(`
shared_volumes: [datasets, models]
profiles:
  egress:
    extends: strict
    networks: [none, session, bridge]
  roomy:
    extends: egress
    tmp_mb: 1024
    readonly_root: false
    capabilities: [CHOWN]
`),
    )
    expect(sharedVolumes).toEqual(['datasets', 'models'])
    expect(profiles.get('egress')).toEqual({
      ...STRICT,
      name: 'egress',
      networks: new Set(['none', 'session', 'bridge']),
    })
    expect(profiles.get('roomy')).toEqual({
      ...STRICT,
      name: 'roomy',
      networks: new Set(['none', 'session', 'bridge']),
      tmpBytes: 1024 * 1024 * 1024,
      readonlyRoot: false,
      capabilities: ['CHOWN'],
    })
    expect(profiles.get('strict')).toEqual(STRICT)
  })

  it.each([
    ['an unknown field', 'profile: {}', 'profile'],
    ['an unknown field of a profile', 'profiles: {x: {extends: strict, privileged: true}}', 'privileged'],
    [
      'a capability that no profile may grant',
      'profiles: {x: {extends: strict, capabilities: [SYS_ADMIN]}}',
      'capabilities',
    ],
    ['an unknown network', 'profiles: {x: {extends: strict, networks: [host]}}', 'networks'],
    ['no network at all', 'profiles: {x: {extends: strict, networks: []}}', 'networks'],
    ['a number as text', 'profiles: {x: {extends: strict, tmp_mb: "12"}}', 'tmp_mb'],
    ['a tmpfs of nothing', 'profiles: {x: {extends: strict, tmp_mb: 0}}', 'tmp_mb'],
    ['no base', 'profiles: {x: {tmp_mb: 5}}', 'extends'],
    ['an unknown base', 'profiles: {x: {extends: nothing}}', '"nothing"'],
    ['a base that stands behind it', 'profiles: {x: {extends: y}, y: {extends: strict}}', '"y"'],
    ['a name that is none', 'profiles: {"a b": {extends: strict}}', 'a b'],
    ['a list', '- a', 'object'],
    ['a bad volume name', 'shared_volumes: ["/etc"]', 'shared_volumes'],
    ['no YAML', 'profiles: {', ''],
    ['tabs for spaces', 'profiles:\n\tx: 1', ''],
  ])('is refused with %s, in one line that names it', async (_, content, word) => {
    const environment = await withFile(content)
    const { message } = refusal(environment)
    expect(message).toMatch(/^CO_CONFIG/)
    expect(message).toContain(word)
    expect(message).not.toContain('\n')
  })
})
