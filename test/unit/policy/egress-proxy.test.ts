import { BlockList, isIPv4 } from 'node:net'
import { describe, expect, it } from 'vitest'
import { EGRESS_PORT, egressAlias, egressConfig, planEgress, throughProxy } from '../../../src/policy/egress-proxy.ts'

const EGRESS = { hosts: ['api.example.org', '*.example.net'], ports: [443, 80], privateRanges: [] }
const SUBNET = '10.213.0.32/27'
const MIB = 1024 * 1024

/** What follows each directive, by its name; of one that is there more than once, the last. */
function directives(config: string): Record<string, string> {
  const pairs = config.trimEnd().split('\n')
  return Object.fromEntries(pairs.map((line) => [line.split(' ')[0], line.slice(line.indexOf(' ') + 1)]))
}

/** The addresses of version 4 that the configuration counts as not public. */
function notPublic(): BlockList {
  const list = new BlockList()
  const ranges =
    egressConfig(EGRESS, SUBNET)
      .match(/^acl not_public dst (.*)$/m)?.[1]
      ?.split(' ') ?? []
  for (const [network = '', prefix] of ranges.map((range) => range.split('/'))) {
    if (isIPv4(network)) list.addSubnet(network, Number(prefix))
  }
  return list
}

/** The lines that decide, in their order: the first that fits does. */
function decisions(config: string): string[] {
  return config.split('\n').filter((line) => line.startsWith('http_access'))
}

it('lets out what is on the list of names and of ports, and has a public address', () => {
  const config = egressConfig(EGRESS, SUBNET)
  expect(decisions(config)).toEqual([
    'http_access deny manager',
    'http_access deny !session',
    'http_access deny !hosts',
    'http_access deny !ports',
    'http_access deny ftp',
    'http_access deny not_public',
    'http_access allow all',
  ])
  expect(config).toContain(`acl session src ${SUBNET}\n`)
  // "-n": an address is not looked up to see whether it has a name of the list.
  expect(config).toContain('acl hosts dstdomain -n api.example.org .example.net\n')
  expect(config).toContain('acl ports port 443 80\n')
})

describe('a public address', () => {
  // The first and the last address of each block that RFC 6890 keeps from the internet, and of multicast.
  it.each([
    ['0.0.0.0', '0.255.255.255'],
    ['10.0.0.0', '10.255.255.255'],
    ['100.64.0.0', '100.127.255.255'],
    ['127.0.0.1', '127.255.255.255'],
    ['169.254.0.0', '169.254.255.255'],
    ['172.16.0.0', '172.31.255.255'],
    ['192.0.0.0', '192.0.0.255'],
    ['192.0.2.0', '192.0.2.255'],
    ['192.88.99.0', '192.88.99.255'],
    ['192.168.0.0', '192.168.255.255'],
    ['198.18.0.0', '198.19.255.255'],
    ['198.51.100.0', '198.51.100.255'],
    ['203.0.113.0', '203.0.113.255'],
    ['224.0.0.0', '255.255.255.255'],
  ])('is none from %s to %s', (first, last) => {
    expect([notPublic().check(first), notPublic().check(last)]).toEqual([true, true])
  })

  it.each(['1.1.1.1', '100.128.0.1', '172.32.0.1', '192.0.1.1', '192.169.0.1', '198.20.0.1', '223.255.255.255'])(
    'may be %s',
    (address) => {
      expect(notPublic().check(address)).toBe(false)
    },
  )
})

it('lets out to the private ranges that the operator opened, after name and port are looked at', () => {
  const config = egressConfig({ ...EGRESS, privateRanges: ['10.1.0.0/16', '10.2.0.0/16'] }, SUBNET)
  expect(config).toContain('acl opened dst 10.1.0.0/16 10.2.0.0/16\n')
  const lines = decisions(config)
  expect(lines.indexOf('http_access allow opened')).toBe(lines.indexOf('http_access deny not_public') - 1)
  expect(lines.indexOf('http_access allow opened')).toBeGreaterThan(lines.indexOf('http_access deny !ports'))
})

describe('the configuration', () => {
  it.each([[[]], [['10.1.0.0/16']]])('says what each name means by which it decides, opened: %j', (privateRanges) => {
    const config = egressConfig({ ...EGRESS, privateRanges }, SUBNET)
    const defined = [...config.matchAll(/^acl (\S+) /gm)].map(([, name]) => name)
    const used = decisions(config).map((line) => line.split(/ !?/)[2] ?? '')
    // Squid knows these two by itself.
    expect(defined.toSorted()).toEqual(used.filter((name) => name !== 'manager' && name !== 'all').toSorted())
    expect(config).toContain('acl ftp proto FTP\n')
  })

  it('has a directive and its value in each line, and an end of line behind the last', () => {
    const config = egressConfig(EGRESS, SUBNET)
    expect(config).toMatch(/\S\n$/)
    for (const line of config.trimEnd().split('\n')) expect(line).toMatch(/^[a-z_]+ \S/)
  })

  it('listens where its containers look for it', () => {
    expect(directives(egressConfig(EGRESS, SUBNET))).toMatchObject({ http_port: String(EGRESS_PORT) })
  })

  it('keeps nothing of what passes, and writes no file: there is no place for one', () => {
    const found = directives(egressConfig(EGRESS, SUBNET))
    expect(found).toMatchObject({ cache: 'deny all', pinger_enable: 'off' })
    // By default squid writes each of these to a file.
    const files = ['access_log', 'cache_log', 'cache_store_log', 'pid_filename', 'netdb_filename', 'coredump_dir']
    for (const name of files) expect(found[name], name).toMatch(/^(none|(stdio:)?\/dev\/std(out|err)( egress)?)$/)
  })

  it('tells the other side nothing of the session or of itself, and completes no name', () => {
    expect(directives(egressConfig(EGRESS, SUBNET))).toMatchObject({
      via: 'off',
      forwarded_for: 'delete',
      httpd_suppress_version_string: 'on',
      visible_hostname: 'egress',
      dns_defnames: 'off',
    })
  })

  it('logs who asked for which host and what became of it, without the path', () => {
    const { logformat = '', access_log } = directives(egressConfig(EGRESS, SUBNET))
    const [name, ...fields] = logformat.split(' ')
    expect(fields).toEqual(['%ts.%03tu', '%>a', '%Ss/%03>Hs', '%rm', '%>rd:%>rP', '%<st'])
    expect(access_log).toBe(`stdio:/dev/stdout ${name}`)
  })

  it('says only what it cannot go on without beside that', () => {
    expect(directives(egressConfig(EGRESS, SUBNET))).toMatchObject({ debug_options: 'ALL,0', cache_log: '/dev/stderr' })
  })

  it.each(['connect_timeout', 'dns_timeout', 'shutdown_lifetime'])('has an end in seconds for %s', (name) => {
    const [, seconds] = /^(\d+) seconds?$/.exec(directives(egressConfig(EGRESS, SUBNET))[name] ?? '') ?? []
    expect(Number(seconds)).toBeGreaterThan(0)
    expect(Number(seconds)).toBeLessThan(30)
  })

  it('fits into what its container has', () => {
    const { cache_mem = '', max_filedescriptors, memory_pools } = directives(egressConfig(EGRESS, SUBNET))
    const { memoryBytes, openFiles } = planEgress('', '', []).resources
    const [, mebibytes] = /^(\d+) MB$/.exec(cache_mem) ?? []
    expect(Number(mebibytes) * MIB).toBeLessThan(memoryBytes / 2)
    expect(memory_pools).toBe('off')
    expect(Number(max_filedescriptors)).toBe(openFiles.soft)
  })
})

describe('the container of the proxy', () => {
  const TOOLS = { type: 'volume', source: 'tools', target: '/.toolbox', readOnly: true } as const
  const plan = planEgress('config', '/.toolbox/busybox', [TOOLS])

  it('has little, and no rights', () => {
    expect(plan).toMatchObject({ environment: { CONFIG: 'config' }, mounts: [TOOLS], ports: [], openStdin: false })
    expect(plan.sandbox).toMatchObject({ readonlyRoot: true, capabilities: [] })
    expect(plan.resources).toEqual({
      memoryBytes: 96 * MIB,
      cpus: 0.5,
      pids: 32,
      openFiles: { soft: 4096, hard: 4096 },
    })
  })

  it('writes to one small folder alone, which belongs to its user', () => {
    const [folder, ...others] = plan.sandbox.tmpfs
    expect(others).toEqual([])
    expect(folder?.bytes).toBeGreaterThan('config'.length)
    expect(folder?.bytes).toBeLessThanOrEqual(MIB)
    expect(plan.user).toBe('13:13')
    expect(`${folder?.owner?.uid}:${folder?.owner?.gid}`).toBe(plan.user)
  })

  it('puts its configuration there, and becomes the proxy, in the foreground', () => {
    const file = `${plan.sandbox.tmpfs[0]?.target}/squid.conf`
    expect(file).toBe('/run/egress/squid.conf')
    const [shell, applet, option, script, ...rest] = [...(plan.entrypoint ?? []), ...(plan.command ?? [])]
    expect([shell, applet, option, rest]).toEqual(['/.toolbox/busybox', 'sh', '-c', []])
    expect(script).toBe(`printf %s "$CONFIG" >${file} && exec /usr/sbin/squid -N -f ${file}`)
  })
})

it('has a name for each profile', () => {
  expect(egressAlias('online')).not.toBe(egressAlias('other'))
})

it('names the proxy of the profile in both cases, and lets the caller’s own variables hold', () => {
  const plan = throughProxy({ ...planEgress('', '', []), environment: { NO_PROXY: 'mine', LANG: 'C' } }, 'online')
  const proxy = `http://egress-online:${EGRESS_PORT}`
  expect(plan.environment).toEqual({
    HTTP_PROXY: proxy,
    http_proxy: proxy,
    HTTPS_PROXY: proxy,
    https_proxy: proxy,
    NO_PROXY: 'mine',
    no_proxy: 'localhost,127.0.0.1',
    LANG: 'C',
  })
})
