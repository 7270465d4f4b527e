import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { faultOfStatus, refusal, translate, translating } from '../../../../src/engine/docker/faults.ts'
import { EngineError } from '../../../../src/errors.ts'
import { rejection } from '../../support/streams.ts'

describe('faultOfStatus', () => {
  it.each([
    [404, 'No such container: abc', 'not_found'],
    [409, 'Conflict. The container name "/tool_x" is already in use by container "abc"', 'conflict'],
    [409, 'container abc is not running', 'conflict'],
    [400, 'invalid reference format', 'invalid'],
    [500, 'driver failed programming external connectivity', 'failed'],
    [503, '', 'failed'],
    // Docker 20.10, 25 and 28 on a range that is taken; Podman.
    [403, 'Pool overlaps with other one on this address space', 'subnet_overlap'],
    [400, 'invalid pool request: Pool overlaps with other one on this address space', 'subnet_overlap'],
    [500, 'subnet 10.213.0.0/27 is already used on the host or by another config', 'subnet_overlap'],
    [409, 'network with name session_s1 already exists', 'conflict'],
    [403, 'error while removing network: network n id 1 has active endpoints', 'conflict'],
    [409, 'remove volume_s1_data: volume is in use - [abc]', 'conflict'],
    // Podman 4.
    [500, 'the container name "x" is already in use by abc. You have to remove that container', 'conflict'],
    [500, 'volume x is being used by the following container(s): abc: volume is being used', 'conflict'],
    [
      500,
      '"n" has associated containers with it. Use -f to forcefully delete containers and pods: network is being used',
      'conflict',
    ],
  ] as const)('%i "%s" is %s', (status, message, fault) => {
    expect(faultOfStatus(status, message)).toBe(fault)
  })
})

describe('refusal', () => {
  it("says what was being done, and the daemon's words", () => {
    const error = refusal('creating network n', 403, 'Pool overlaps with other one on this address space\n')
    expect(error).toMatchObject({ fault: 'subnet_overlap', code: 'engine_error' })
    expect(error.message).toBe(
      'The engine refused while creating network n: Pool overlaps with other one on this address space',
    )
  })

  it('names the status where the daemon said nothing', () => {
    expect(refusal('listing', 502, ' ').message).toBe('The engine refused while listing: status 502')
  })
})

describe('translate', () => {
  it('passes an EngineError unchanged', () => {
    const error = new EngineError('build_failed', 'step 2')
    expect(translate('building', error)).toBe(error)
  })

  it('takes the words out of the body that dockerode parsed', () => {
    const thrown = Object.assign(new Error('(HTTP code 404) no such container - …'), {
      statusCode: 404,
      json: { message: 'No such container: abc' },
    })
    expect(translate('inspecting', thrown)).toMatchObject({
      fault: 'not_found',
      message: 'The engine refused while inspecting: No such container: abc',
    })
  })

  it.each([
    ['bytes', Buffer.from('<html>')],
    ['text', 'not an object'],
    ['a number', 502],
    ['null', null],
    ['nothing', undefined],
    ['an object without a message', {}],
  ])('survives a body that is %s', (_, json) => {
    const thrown = Object.assign(new Error('(HTTP code 500) server error'), { statusCode: 500, json })
    expect(translate('starting', thrown)).toMatchObject({
      fault: 'failed',
      message: expect.stringContaining('starting') as string,
    })
  })

  it.each([
    'ECONNREFUSED',
    'ECONNRESET',
    'ENOENT',
    'EACCES',
    'EPIPE',
    'ENOTFOUND',
    'EHOSTUNREACH',
    'ETIMEDOUT',
    'UND_ERR_SOCKET',
    'UND_ERR_CONNECT_TIMEOUT',
    'UND_ERR_CLOSED',
    'UND_ERR_DESTROYED',
  ])('%s means that the engine is away', (code) => {
    const cause = Object.assign(new Error('connect'), { code })
    const error = translate('pinging', cause)
    expect(error).toMatchObject({ fault: 'unavailable', code: 'engine_unavailable', cause })
    expect(error.details.retryAfterSeconds).toBe(1)
  })

  it.each(['socket hang up', 'other side closed', 'terminated'])('"%s" means that the engine is away', (message) => {
    expect(translate('reading', new Error(message))).toMatchObject({ fault: 'unavailable' })
  })

  it('tells a deadline from an abort', async () => {
    const deadline: unknown = await rejection(
      new Promise((_, reject) => {
        const signal = AbortSignal.timeout(1)
        signal.addEventListener('abort', () => reject(signal.reason))
      }),
    )
    expect(translate('inspecting', deadline)).toMatchObject({ fault: 'deadline', code: 'engine_unavailable' })
    expect(translate('inspecting', AbortSignal.abort().reason)).toMatchObject({ fault: 'failed' })
  })

  it('makes an EngineError of anything, and says what was being done', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.double(), fc.boolean(), fc.object({ key: fc.constant('a') })),
        (anything) => {
          const error = translate('thinking', anything)
          expect(error).toBeInstanceOf(EngineError)
          expect(error.message).toContain('thinking')
        },
      ),
    )
  })

  it.each([undefined, null])('makes an EngineError of %s', (nothing) => {
    expect(translate('thinking', nothing)).toMatchObject({ fault: 'failed' })
  })
})

describe('translating', () => {
  it('gives what the work gives', async () => {
    expect(await translating('x', async () => 7)).toBe(7)
  })

  it('translates what it throws, and keeps the cause', async () => {
    const cause = Object.assign(new Error('connect ENOENT /var/run/docker.sock'), { code: 'ENOENT' })
    const error = await rejection(translating('listing', () => Promise.reject(cause)))
    expect(error).toMatchObject({ fault: 'unavailable', cause })
  })
})
