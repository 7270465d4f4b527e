import { createReadStream } from 'node:fs'
import { setImmediate as nextTurn } from 'node:timers/promises'
import Fastify from 'fastify'
import { expect, it } from 'vitest'
import { answersTogether } from '../../../src/plugins/answers-together.ts'
import { problemDetails } from '../../../src/plugins/problems.ts'

async function service() {
  const told: string[] = []
  const app = Fastify()
  await app.register(problemDetails)
  const tells = (what: string) =>
    app.addHook('onSend', ({ url }, _reply, _payload, done) => {
      told.push(`${url.slice(1)} is ${what}`)
      done()
    })
  tells('ready')
  await app.register(answersTogether)
  tells('sent')
  app.get<{ Params: { name: string } }>('/:name', async ({ params: { name } }, reply) => {
    if (name === 'unsendable') reply.header('x-bad', 'two\nlines')
    if (name === 'missing') return reply.send(createReadStream('/nowhere/at/all'))
    return name
  })
  await app.ready()
  const ask = (name: string) => app.inject(`/${name}`)
  return { ask, told, [Symbol.asyncDispose]: () => app.close() }
}

it('sends what is ready in one turn together, in its order', async () => {
  await using app = await service()
  const answers = await Promise.all([app.ask('a'), app.ask('b'), app.ask('c')])
  expect(answers.map(({ body }) => body)).toEqual(['a', 'b', 'c'])
  expect(app.told).toEqual([...['a is ready', 'b is ready', 'c is ready'], ...['a is sent', 'b is sent', 'c is sent']])
})

it('lets no more than sixteen wait for each other', async () => {
  await using app = await service()
  const names = Array.from({ length: 40 }, (_, index) => `n${index}`)
  const answers = await Promise.all(names.map(app.ask))
  expect(answers.map(({ body }) => body)).toEqual(names)
  const firstSent = app.told.indexOf('n0 is sent')
  expect(app.told.slice(0, firstSent).filter((line) => line.endsWith('ready'))).toHaveLength(16)
})

it('answers 500 for one that cannot be sent, and the others as ever', async () => {
  await using app = await service()
  const answers = await Promise.all([app.ask('a'), app.ask('unsendable'), app.ask('b')])
  expect(answers.map(({ statusCode }) => statusCode)).toEqual([200, 500, 200])
  await nextTurn()
  expect((await app.ask('later')).body).toBe('later')
})

it('holds no stream back, which may break before anybody listens to it', async () => {
  await using app = await service()
  const answers = await Promise.all([app.ask('a'), app.ask('missing'), app.ask('b')])
  expect(answers.map(({ statusCode }) => statusCode)).toEqual([200, 500, 200])
  expect(app.told.indexOf('missing is sent')).toBe(app.told.indexOf('missing is ready') + 1)
})
