/** Output of runs whose stdin ends, over a connection that goes on then, and over one that ends with it. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { sh } from '../fixtures/client.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { WarmClient } from '../fixtures/warm-client.ts'
import { SocketProxy } from '../support/socket-proxy.ts'

let proxy: SocketProxy
let service: TestService
let client: WarmClient

beforeEach(async () => {
  proxy = await SocketProxy.open(process.env['DOCKER_HOST'])
  service = await startService({ environment: { DOCKER_HOST: proxy.host, CO_POOL_MAX: '4' } })
  client = new WarmClient(service.url)
})
afterEach(async () => {
  await service.destroy()
  await proxy.close()
})

const ANSWER = { status: 'completed', stdout: 'asked\nanswered\n', stdout_bytes: 15 }
const ASK = { command: sh('cat; echo answered'), stdin: 'asked\n' }

it('is whole behind a proxy that ends both directions of a connection with the first', async () => {
  proxy.endsBoth = true
  const silent = await client.run({ command: sh('cat >/dev/null'), stdin: 'asked\n' })
  expect(silent).toMatchObject({ status: 'completed', stdout: '' })
  for (let run = 0; run < 3; run++) {
    expect(await client.run(ASK)).toMatchObject(ANSWER)
    // A run of its own container.
    expect(await client.run({ ...ASK, cleanup: false })).toMatchObject(ANSWER)
  }
  const late = await client.run({ command: sh('cat; sleep 1; echo answered'), stdin: 'asked\n' })
  expect(late).toMatchObject(ANSWER)
})

it('is not read again from the engine’s log where connections go on', async () => {
  const reads = () => proxy.asked('GET', /\/containers\/[0-9a-f]{64}\/logs/).length
  // Longer than any other takes here: then that is known of connections.
  const slow = { command: sh('cat; sleep 1; echo answered'), stdin: 'asked\n' }
  expect(await client.run(slow)).toMatchObject({ ...ANSWER, warm: true })
  const before = reads()
  for (let run = 0; run < 3; run++) expect(await client.run(ASK)).toMatchObject(ANSWER)
  expect(reads()).toBe(before)
})
