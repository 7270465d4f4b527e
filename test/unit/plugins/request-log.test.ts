import Fastify, { type FastifyBaseLogger } from 'fastify'
import { pino } from 'pino'
import { expect, it } from 'vitest'
import { withRequestLogs } from '../../../src/plugins/request-log.ts'

it('writes every level with what is bound, and makes a child of the log only then', () => {
  const lines: Record<string, unknown>[] = []
  const parent = pino(
    { level: 'trace', base: null, timestamp: false },
    { write: (line) => void lines.push(JSON.parse(line)) },
  )
  let made = 0
  const counting = Object.assign(Object.create(parent) as typeof parent, {
    child: (...args: Parameters<typeof parent.child>) => {
      made += 1
      return parent.child(...args)
    },
  })
  const log = withRequestLogs(counting).child({ request_id: 'r1' })
  expect([made, log.level]).toEqual([0, 'trace'])
  for (const level of ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const)
    log[level]({ event: level }, 'said')
  log.child({ more: true }).info('child')
  expect(made).toBe(1)
  expect(lines).toEqual([
    ...[60, 50, 40, 30, 20, 10].map((level, index) => ({
      level,
      request_id: 'r1',
      event: ['fatal', 'error', 'warn', 'info', 'debug', 'trace'][index],
      msg: 'said',
    })),
    { level: 30, request_id: 'r1', more: true, msg: 'child' },
  ])
})

it('makes nothing for a request of Fastify in which nobody writes', async () => {
  let made = 0
  const counting = (log: FastifyBaseLogger): FastifyBaseLogger =>
    Object.assign(Object.create(log) as FastifyBaseLogger, {
      child: (...args: Parameters<FastifyBaseLogger['child']>) => {
        made += 1
        return counting(log.child(...args))
      },
    })
  await using app = Fastify({
    loggerInstance: withRequestLogs(counting(pino({ level: 'silent' }))),
    disableRequestLogging: true,
  })
  app.get('/:what', async (request) => {
    if ((request.params as { what: string }).what === 'loud') request.log.info('said')
    return 'done'
  })
  const ask = async (path: string) => expect((await app.inject(path)).body).toBe('done')
  // The log of the app itself is made with the first.
  await ask('/quiet')
  const before = made
  for (let again = 0; again < 3; again++) await ask('/quiet')
  expect(made).toBe(before)
  await ask('/loud')
  expect(made).toBe(before + 1)
})
