import { describe, expect, it } from 'vitest'
import { ListRelics, StartRelic, StopRelic } from '../../../src/domain/relic.ts'

const LEAST = { relic_name: 'db', session_id: 's1', image: 'postgres:17' }
const pathsOf = (fields: object) =>
  StartRelic.safeParse({ ...LEAST, ...fields }).error?.issues.map((issue) => issue.path.join('.')) ?? []

describe('StartRelic', () => {
  it('has the defaults of the contract', () => {
    expect(StartRelic.parse(LEAST)).toEqual({
      ...LEAST,
      environment: {},
      create_private_network: true,
      health_check_endpoint: '/health',
      health_check_timeout_seconds: 60,
      port: 8000,
      ports: {},
      volumes: [],
      resource_limits: { memory_mb: 1024, cpu_limit: 2, timeout_seconds: 600, pids_limit: 512 },
      restart_policy: { max_retries: 3 },
      labels: {},
    })
  })

  it('takes null for no health check', () => {
    expect(StartRelic.parse({ ...LEAST, health_check_endpoint: null }).health_check_endpoint).toBeNull()
  })

  it.each(['/', '/health', '/a/b?c=d', '/%20'])('takes the health check path %s', (health_check_endpoint) => {
    expect(pathsOf({ health_check_endpoint })).toEqual([])
  })

  it.each([
    'health',
    '',
    'http://169.254.169.254/',
    '//evil.example.com/x',
    '/a b',
    '/a\r\nHost: evil',
    '/a\n',
    '/\\evil.example.com/x',
    '/@evil.example.com/x',
    'user@evil.example.com',
    'https://evil.example.com/',
    '/a#b',
    '/a\u0000',
    '/\u{1f600}',
    '/ä',
    `/${'x'.repeat(1024)}`,
  ])('refuses the health check %j', (health_check_endpoint) => {
    expect(pathsOf({ health_check_endpoint })).toEqual(['health_check_endpoint'])
  })

  it.each([
    [{ port: 0 }, 'port'],
    [{ port: 65_536 }, 'port'],
    [{ port: 80.5 }, 'port'],
    [{ ports: { '80': -1 } }, 'ports.80'],
    [{ ports: { '80': 65_536 } }, 'ports.80'],
    [{ ports: { '0': 0 } }, 'ports.0'],
    [{ ports: { '080': 0 } }, 'ports.080'],
    [{ ports: { '99999': 0 } }, 'ports.99999'],
    [{ ports: { '80/udp': 0 } }, 'ports.80/udp'],
    [{ ports: { '80': '0.0.0.0:80' } }, 'ports.80'],
    [{ restart_policy: { max_retries: -1 } }, 'restart_policy.max_retries'],
    [{ restart_policy: { name: 'always' } }, 'restart_policy'],
    [{ health_check_timeout_seconds: 0 }, 'health_check_timeout_seconds'],
    [{ image: undefined }, 'image'],
    [{ relic_name: '-db' }, 'relic_name'],
  ])('refuses %j', (fields, path) => {
    expect(pathsOf(fields)).toEqual([path])
  })

  it('takes published ports, 0 for any free one', () => {
    expect(StartRelic.parse({ ...LEAST, ports: { '8000': 0, '65535': 18_000 } }).ports).toEqual({
      '8000': 0,
      '65535': 18_000,
    })
  })
})

describe('StopRelic', () => {
  it('waits 10 seconds unless told otherwise', () => {
    expect(StopRelic.parse({})).toEqual({ timeout_seconds: 10 })
    expect(StopRelic.parse({ timeout_seconds: 0 })).toEqual({ timeout_seconds: 0 })
  })

  it.each([-1, 3601, 1.5])('refuses %d seconds', (timeout_seconds) => {
    expect(StopRelic.safeParse({ timeout_seconds }).success).toBe(false)
  })
})

describe('ListRelics', () => {
  it('reads a query', () => {
    expect(ListRelics.parse({ session_id: 's1', status: 'healthy', relic_name: 'db', limit: '1000' })).toEqual({
      session_id: 's1',
      status: 'healthy',
      relic_name: 'db',
      limit: 1000,
    })
  })
})
