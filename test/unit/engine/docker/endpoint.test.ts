import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseEndpoint } from '../../../../src/engine/docker/endpoint.ts'
import { temporaryFolder } from '../../support/folders.ts'

async function certificates(...names: string[]): Promise<string> {
  const folder = await temporaryFolder()
  for (const name of names) await writeFile(join(folder, name), `content of ${name}`)
  return folder
}

describe('parseEndpoint', () => {
  it.each([
    ['unix:///var/run/docker.sock', { socketPath: '/var/run/docker.sock' }],
    ['unix:///run/user/1000/podman/podman.sock', { socketPath: '/run/user/1000/podman/podman.sock' }],
    ['tcp://10.0.0.5:2375', { host: '10.0.0.5', port: 2375 }],
    ['http://engine:4243', { host: 'engine', port: 4243 }],
    ['tcp://engine', { host: 'engine', port: 2375 }],
  ])('reads %s', (host, endpoint) => {
    expect(parseEndpoint({ host })).toEqual(endpoint)
  })

  it('keeps a port that is the default of its scheme', () => {
    expect(parseEndpoint({ host: 'tcp://engine:80' })).toEqual({ host: 'engine', port: 80 })
  })

  it('gives an IPv6 address as a socket takes it', () => {
    expect(parseEndpoint({ host: 'tcp://[::1]:2375' })).toEqual({ host: '::1', port: 2375 })
  })

  it('uses TLS and its port where there are certificates', async () => {
    const certPath = await certificates('ca.pem', 'cert.pem', 'key.pem')
    expect(parseEndpoint({ host: 'tcp://engine', certPath })).toEqual({
      host: 'engine',
      port: 2376,
      tls: {
        ca: Buffer.from('content of ca.pem'),
        cert: Buffer.from('content of cert.pem'),
        key: Buffer.from('content of key.pem'),
      },
    })
    expect(parseEndpoint({ host: 'tcp://engine:1234', certPath })).toMatchObject({ port: 1234 })
  })

  it('never takes an https address for one in plain text', () => {
    expect(() => parseEndpoint({ host: 'https://engine:2376' })).toThrow(/DOCKER_CERT_PATH/)
  })

  it('names the certificate that is missing', async () => {
    const certPath = await certificates('ca.pem', 'key.pem')
    expect(() => parseEndpoint({ host: 'tcp://engine', certPath })).toThrow(/cert\.pem/)
  })

  it.each([
    'ssh://me@engine',
    'npipe:////./pipe/docker_engine',
    '/var/run/docker.sock',
    'engine:2375',
    'tcp://',
    'unix://',
  ])('refuses %s and names the variable', (host) => {
    expect(() => parseEndpoint({ host })).toThrow(/DOCKER_HOST/)
  })
})
