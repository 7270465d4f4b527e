import { expect, it } from 'vitest'
import { egressConfig, planEgress, throughProxy } from '../../../src/policy/egress-proxy.ts'

const EGRESS = { hosts: ['api.example.org', '*.example.net'], ports: [443, 80], privateRanges: [] }
const SUBNET = '10.213.0.32/27'

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

it.each(['10.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', '::/0'])(
  'counts %s as not public',
  (range) => {
    const [line] = egressConfig(EGRESS, SUBNET)
      .split('\n')
      .filter((each) => each.startsWith('acl not_public dst '))
    expect(line?.split(' ').slice(3)).toContain(range)
  },
)

it('lets out to the private ranges that the operator opened, after name and port are looked at', () => {
  const config = egressConfig({ ...EGRESS, privateRanges: ['10.1.0.0/16', '10.2.0.0/16'] }, SUBNET)
  expect(config).toContain('acl opened dst 10.1.0.0/16 10.2.0.0/16\n')
  const lines = decisions(config)
  expect(lines.indexOf('http_access allow opened')).toBe(lines.indexOf('http_access deny not_public') - 1)
  expect(lines.indexOf('http_access allow opened')).toBeGreaterThan(lines.indexOf('http_access deny !ports'))
})

it('keeps and marks nothing, and logs hosts without paths', () => {
  const lines = egressConfig(EGRESS, SUBNET).split('\n')
  expect(lines).toEqual(expect.arrayContaining(['cache deny all', 'via off', 'forwarded_for delete']))
  const [format] = lines.filter((line) => line.startsWith('logformat'))
  expect(format).not.toMatch(/%ru|%>ru|%rp|%>rp/)
})

it('gives the proxy no rights, and its configuration as one variable', () => {
  const plan = planEgress('config', '/.toolbox/busybox', [])
  expect(plan).toMatchObject({ user: '13:13', environment: { CONFIG: 'config' }, ports: [], openStdin: false })
  expect(plan.sandbox).toMatchObject({ readonlyRoot: true, capabilities: [] })
})

it('names the proxy of the profile in both cases, and lets the caller’s own variables hold', () => {
  const plan = throughProxy({ ...planEgress('', '', []), environment: { NO_PROXY: 'mine', LANG: 'C' } }, 'online')
  const proxy = 'http://egress-online:3128'
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
