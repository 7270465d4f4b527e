import { expect, it } from 'vitest'
import { startMemoryService } from '../../fixtures/memory-service.ts'
import { rawRequest, sendRaw } from '../../fixtures/raw-http.ts'

it('sends the headers of helmet with every answer, also with refusals, and no two of one name', async () => {
  await using service = await startMemoryService()
  const asked = [
    ['GET /livez', 'localhost', 200],
    ['GET /metrics', 'localhost', 200],
    ['GET /nowhere', 'localhost', 404],
    ['GET /livez', 'evil.example', 403],
    ['POST /containers/tool/execute', 'localhost', 400],
  ] as const
  for (const [line, host, status] of asked) {
    const answer = await sendRaw(service.port, rawRequest(line, [`Host: ${host}`]))
    const lines = answer.head.toLowerCase().split('\r\n')
    const told = lines.filter((text) => SECURITY.includes(text)).toSorted()
    expect([answer.status, told], line).toEqual([status, SECURITY])
    const names = lines.slice(1).map((text) => text.split(':')[0])
    expect(new Set(names).size, line).toBe(names.length)
  }
})

const SECURITY = [
  'cross-origin-opener-policy: same-origin',
  'cross-origin-resource-policy: same-origin',
  'origin-agent-cluster: ?1',
  'referrer-policy: no-referrer',
  'x-content-type-options: nosniff',
  'x-dns-prefetch-control: off',
  'x-download-options: noopen',
  'x-frame-options: sameorigin',
  'x-permitted-cross-domain-policies: none',
  'x-xss-protection: 0',
]
