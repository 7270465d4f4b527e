/** Containers without a network, as their processes see it: started the fast way, and the engine's own. */
import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import type { NetworkAttachment } from '../../src/engine/spec.ts'
import { encodeLabels } from '../../src/labels.ts'
import { DockerManager } from '../../src/managers/docker-manager.ts'
import { LoopbackOnly } from '../../src/managers/loopback-only.ts'
import { Toolbox } from '../../src/managers/toolbox.ts'
import { programPath } from '../../src/managers/toolbox-programs.ts'
import { STRICT } from '../../src/policy/profiles.ts'
import { leastContainer } from '../fixtures/container-spec.ts'
import { DEBIAN, TOOLBOX } from '../fixtures/images.ts'
import { removeAll } from '../fixtures/service.ts'

const log = pino({ level: 'silent' })
const instance = randomUUID()
const owner = { kind: 'tool', id: 'loopback', nonce: 'n', instance } as const
let engine: DockerEngine
let toolbox: Toolbox
let loopback: LoopbackOnly

beforeAll(async () => {
  engine = await DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' })
  const docker = new DockerManager({ engine, instance, log })
  toolbox = new Toolbox({ engine, docker, instance, binary: undefined })
  loopback = new LoopbackOnly({ availability: engine.availability, toolbox, log })
})
afterAll(async () => {
  await removeAll(engine, instance)
  await engine.close()
})

/** What a process finds of networks, and whether one can listen and be called on localhost. */
const LOOK = `
import errno, os, socket
def read(path):
    with open(path) as file: return file.read().split()
def failure(work):
    try: work()
    except OSError as error: return errno.errorcode.get(error.errno, str(error.errno))
def names(host): return sorted({entry[4][0] for entry in socket.getaddrinfo(host, 80, socket.AF_INET)})
with socket.create_server(('localhost', 8080)) as server, socket.create_connection(('localhost', 8080)) as client:
    server.accept()[0].sendall(b'hello')
    heard = client.recv(5).decode()
print('interfaces', *sorted(os.listdir('/sys/class/net')))
print('localhost', *names('localhost'), heard)
print('the host', failure(lambda: socket.create_connection(('172.17.0.1', 9), 1)))
print('another', failure(lambda: names('other.test')) is not None)
print('named', socket.gethostname() == read('/etc/hostname')[0])
print('ports from', *read('/proc/sys/net/ipv4/ip_unprivileged_port_start'))
print('ping', *read('/proc/sys/net/ipv4/ping_group_range'))
print('hosts', failure(lambda: open('/etc/hosts', 'a')))`

async function seenWith(network: NetworkAttachment): Promise<string[]> {
  const imageId = (await engine.images.inspect(DEBIAN))?.id ?? ''
  const id = await engine.containers.create(
    leastContainer({
      name: `loopback-${randomUUID()}`,
      imageId,
      command: ['python3', '-c', LOOK],
      labels: encodeLabels(owner),
      network,
    }),
  )
  const { output } = await engine.containers.attach(id, { stdin: false })
  await engine.containers.start(id)
  let text = ''
  for await (const { bytes } of output) text += bytes.toString()
  return text.trimEnd().split('\n')
}

describe('a container without a network', () => {
  it('sees the same when it is started the fast way, which this engine can', async () => {
    const fast = await loopback.attachment(STRICT)
    expect(fast).toEqual({ mode: 'none', hostsFile: expect.stringMatching(/\/hosts$/) })
    const seen = await seenWith(fast)
    expect(seen).toEqual([
      'interfaces lo',
      'localhost 127.0.0.1 hello',
      'the host ENETUNREACH',
      'another True',
      'named True',
      'ports from 0',
      'ping 0 2147483647',
      'hosts EROFS',
    ])
    expect(await seenWith({ mode: 'none' })).toEqual(seen)
  })

  it('is made all the same where the file of hosts is gone', async () => {
    const network = { mode: 'none', hostsFile: '/nonexistent/hosts' } as const
    const imageId = (await engine.images.inspect(DEBIAN))?.id ?? ''
    const make = (attached: NetworkAttachment) =>
      engine.containers.create(
        leastContainer({
          name: `loopback-${randomUUID()}`,
          imageId,
          labels: encodeLabels(owner),
          network: attached,
        }),
      )
    expect(await loopback.made(network, make)).toMatch(/^[0-9a-f]{64}$/)
  })
})

describe('the look at what a container sees', () => {
  it.each<[string, NetworkAttachment, number]>([
    ['the loopback, set up by the engine', { mode: 'none' }, 0],
    ['a bridge', { mode: 'bridge' }, 1],
  ])('tells one with %s', async (_, network, exitCode) => {
    expect(await toolbox.run(programPath('loopback-alone'), network, undefined)).toBe(exitCode)
  })

  it('tells one that does not know its loopback by name', async () => {
    const hostsFile = (await toolbox.hostsFile())?.replace(/hosts$/, 'worker-kill') ?? ''
    expect(await toolbox.run(programPath('loopback-alone'), { mode: 'none', hostsFile }, undefined)).toBe(1)
  })

  it('tells one on whose loopback somebody listens', async () => {
    const imageId = (await engine.images.inspect(TOOLBOX))?.id ?? ''
    const mounts = [await toolbox.mount()]
    const listening = `busybox nc -l -p 80 & sleep 0.2; ${programPath('loopback-alone')}; exit $?`
    const id = await engine.containers.create(
      leastContainer({
        name: `loopback-${randomUUID()}`,
        imageId,
        mounts,
        command: ['sh', '-c', listening],
        labels: encodeLabels(owner),
        network: await loopback.attachment(STRICT),
      }),
    )
    await engine.containers.start(id)
    await engine.containers.wait(id)
    expect((await engine.containers.inspect(id))?.exitCode).toBe(1)
  })
})
