/**
 * Rows 34 and 41: who may do what to whose, for each route that there is. Nothing here is read from what
 * routes declare but that they do: who may call is said below, and whose something is follows from the names
 * of a route's parameters. A new route, or a new name, fails until it is said.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { text as textOf } from 'node:stream/consumers'
import type { FastifyInstance, RouteOptions } from 'fastify'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { reachOf, scopesOf } from '../../src/access/roles.ts'
import { type Caller, ROLES, type Role } from '../../src/domain/caller.ts'
import { TOOLBOX } from '../fixtures/images.ts'
import { type MemoryService, startMemoryService } from '../fixtures/memory-service.ts'
import { report } from '../support/report.ts'

interface Route {
  method: string
  url: string
}

/** Who is told apart here; `null` has no key, and `unknown` one that nobody gave out. */
const CALLERS = ['null', 'unknown', 'token', ...ROLES] as const
type CallerName = (typeof CALLERS)[number]

const caller = (role: Role, owner: string, session?: string): Caller => ({
  owner,
  keyId: owner,
  role,
  scopes: new Set(scopesOf(role)),
  reach: reachOf(role),
  limits: {},
  ...(session === undefined ? {} : { session }),
})
const KNOWN: Readonly<Record<string, Caller>> = {
  ...Object.fromEntries(ROLES.map((role) => [role, caller(role, `owner-of-${role}`)])),
  token: caller('agent', 'owner-of-agent', 'tokens'),
  anna: caller('agent', 'anna'),
  bert: caller('agent', 'bert'),
  annaService: caller('service', 'anna'),
  bertService: caller('service', 'bert'),
  bertToken: caller('agent', 'bert', 'berts'),
}

/** Told to anybody. */
const PUBLIC = /^\/(?:$|livez$|readyz$|openapi\.(?:json|yaml)$|docs(?:\/|$))/
/** Told to whoever is known. */
const COMMON = new Set(['GET /health', 'HEAD /health'])
/** What ends things, or takes them away: all that the role `cleanup` is for. */
const isRemoving = ({ method, url }: Route) =>
  url.startsWith('/containers/cleanup/') ||
  (method === 'POST' && /\/(?:stop|cancel)$/.test(url)) ||
  (method === 'DELETE' && /^\/(?:sessions\/:session_id|containers\/(?:relic|worker)\/:\w+)$/.test(url))
const isForAll = ({ url }: Route) => /^\/containers\/cleanup\/(?:orphans|all-networks)$/.test(url)
const isMinting = ({ url }: Route) => url.includes('/tokens')
/** What sets how long a session lasts, and what it may have: not for those who were given it. */
const isForKeys = ({ method, url }: Route) => method === 'PUT' && url === '/sessions/:session_id'
const isMetrics = ({ url }: Route) => url === '/metrics'

/** Whether a caller may call it at all, on things of its own. */
function may(who: CallerName, route: Route): boolean {
  if (PUBLIC.test(route.url)) return true
  if (who === 'null' || who === 'unknown') return false
  if (COMMON.has(`${route.method} ${route.url}`)) return true
  switch (who) {
    case 'ops':
      return true
    case 'metrics':
      return isMetrics(route)
    case 'cleanup':
      return isRemoving(route)
    case 'service':
      return !isMetrics(route) && !isForAll(route)
    case 'agent':
      return !isMetrics(route) && !isForAll(route) && !isMinting(route)
    case 'token':
      return may('agent', route) && !isForKeys(route)
  }
}

/** Bodies that are accepted, with the names of a session and a worker put in. */
const BODIES: Readonly<Record<string, (ids: Ids) => object>> = {
  'POST /containers/tool/execute': ({ session_id }) => ({
    tool_name: 't',
    session_id,
    image: TOOLBOX,
    command: ['echo'],
  }),
  'POST /containers/relic/start': ({ session_id }) => ({
    relic_name: 'other',
    session_id,
    image: TOOLBOX,
    command: ['sleep', '60'],
    health_check_endpoint: null,
  }),
  'POST /containers/worker/start': ({ session_id, worker_id }) => ({ worker_id, session_id, image: TOOLBOX }),
  'POST /containers/worker/:worker_id/ensure': ({ session_id }) => ({ session_id, image: TOOLBOX }),
  'POST /containers/worker/:worker_id/exec': () => ({ command: ['echo'] }),
  'POST /containers/worker/:worker_id/refresh': () => ({}),
  'POST /containers/worker/:worker_id/snapshot': () => ({}),
  'POST /containers/cleanup/session': ({ session_id }) => ({ session_id }),
  'POST /containers/cleanup/all-networks': () => ({}),
  'POST /containers/cleanup/orphans': () => ({}),
  'PUT /sessions/:session_id': () => ({ ttl_seconds: 600 }),
  'PUT /containers/worker/:worker_id/files/*': () => ({}),
}

/** By the names that routes give their parameters, and bodies their fields. */
interface Ids {
  session_id: string
  execution_id: string
  relic_id: string
  worker_id: string
  exec_id: string
  /** A container, by the engine's id. */
  id: string
}
/** What lies in something that has an owner, and has none itself. */
const INNER: Readonly<Record<string, string>> = { '*': 'file', token_id: 'token' }
const OWNED = ['session_id', 'execution_id', 'relic_id', 'worker_id', 'exec_id', 'id']
const NOBODYS: Ids = {
  session_id: 'nobodys',
  execution_id: 'exec_01aaaaaaaaaaaaaaaaaaaaaaaa',
  relic_id: 'relic_01aaaaaaaaaaaaaaaaaaaaaaaa',
  worker_id: 'nobodys-worker',
  exec_id: 'exec_01bbbbbbbbbbbbbbbbbbbbbbbb',
  id: 'c'.repeat(64),
}

const routes: Route[] = []
const registered: RouteOptions[] = []
let service: MemoryService
let annas: Ids
let cases = 0

beforeAll(async () => {
  const hear = (message: unknown) => {
    const { fastify } = message as { fastify: FastifyInstance }
    fastify.addHook('onRoute', (route: RouteOptions) => {
      registered.push(route)
      for (const method of [route.method].flat()) {
        routes.push({ method, url: route.url })
      }
    })
  }
  subscribe('fastify.initialization', hear)
  service = await startMemoryService({ keys: { authenticate: async (bearer) => KNOWN[bearer] } })
  unsubscribe('fastify.initialization', hear)
  annas = await possessionsOf('anna')
  await possessionsOf('bert')
})
afterAll(() => service[Symbol.asyncDispose]())

async function possessionsOf(who: string): Promise<Ids> {
  const made = async (url: string, body: object, status: number) => {
    const answer = await call(who, 'POST', url, body)
    expect(answer.status, answer.text).toBe(status)
    return JSON.parse(answer.text)
  }
  const session_id = `${who}s`
  const worker_id = `${who}s-worker`
  const { execution_id } = await made(
    '/containers/tool/execute',
    { tool_name: 't', session_id, image: TOOLBOX, command: ['echo', 'hi'] },
    200,
  )
  const relic = await made(
    '/containers/relic/start',
    { relic_name: 'r', session_id, image: TOOLBOX, command: ['sleep', '600'], health_check_endpoint: null },
    201,
  )
  const worker = await made(
    '/containers/worker/start',
    { worker_id, session_id, image: TOOLBOX, command: ['sleep', '600'] },
    201,
  )
  const exec = await made(`/containers/worker/${worker_id}/exec`, { command: ['echo'] }, 200)
  return {
    session_id,
    worker_id,
    execution_id,
    relic_id: relic.relic_id,
    exec_id: exec.exec_id,
    id: worker.container_id,
  }
}

interface Told {
  status: number
  code: string | undefined
  text: string
}

async function call(who: string, method: string, url: string, body?: object): Promise<Told> {
  const answer = await service.app.inject({
    method: method as 'GET',
    url,
    headers: { host: 'localhost', ...(who === 'null' ? {} : { authorization: `Bearer ${who}` }) },
    ...(body === undefined ? {} : { payload: body }),
    payloadAsStream: true,
  })
  const type = String(answer.headers['content-type'] ?? '')
  // What goes on for ever is let through, and that is all that is asked here.
  if (type.includes('event-stream')) {
    answer.stream().destroy()
    return { status: answer.statusCode, code: undefined, text: '' }
  }
  const told = await textOf(answer.stream())
  const code = type.includes('json') && told !== '' ? (JSON.parse(told) as { code?: string }).code : undefined
  return { status: answer.statusCode, code, text: told }
}

function parametersOf({ url }: Route): string[] {
  return [...url.matchAll(/:(\w+)|(\*)/g)].map(([, name]) => name ?? '*')
}

function addressOf(route: Route, ids: Ids): { url: string; body: object | undefined } {
  let { url } = route
  for (const name of parametersOf(route)) {
    const value = (ids as unknown as Record<string, string>)[name] ?? INNER[name] ?? 'x'
    url = url.replace(name === '*' ? '*' : `:${name}`, value)
  }
  return { url, body: BODIES[`${route.method} ${route.url}`]?.(ids) }
}

const own = () => routes.filter((route) => !PUBLIC.test(route.url))
const nameOf = ({ method, url }: Route) => `${method} ${url}`

describe('every route', () => {
  it('says who may call it', () => {
    expect(routes.length).toBeGreaterThan(50)
    const undeclared = registered.filter(({ config }) => config?.access === undefined)
    expect(undeclared.map(({ method, url }) => `${String(method)} ${url}`)).toEqual([])
  })

  it('takes parameters whose owner is known here, and has a body here where it takes one', () => {
    for (const route of own()) {
      for (const name of parametersOf(route)) expect([...OWNED, ...Object.keys(INNER)], nameOf(route)).toContain(name)
    }
    const bodies = Object.keys(BODIES)
    for (const known of bodies) expect(routes.map(nameOf), known).toContain(known)
  })
})

describe('row 34: each role on each route', () => {
  it.each(CALLERS)('%s may do what it is for, and nothing else', async (who) => {
    const unexpected: string[] = []
    for (const route of routes) {
      const { url, body } = addressOf(route, NOBODYS)
      const { status, code } = await call(who, route.method, url, body)
      const refused =
        status === 401 ? 'unauthenticated' : status === 403 && code !== 'policy_denied' ? 'forbidden' : 'may'
      const expected = may(who, route) ? 'may' : who === 'null' || who === 'unknown' ? 'unauthenticated' : 'forbidden'
      if (refused !== expected) unexpected.push(`${nameOf(route)}: ${status}, not ${expected}`)
      cases += 1
    }
    expect(unexpected).toEqual([])
    // What nobody's names came to in this turn is not there for the next.
    await call('ops', 'POST', '/containers/cleanup/session', { session_id: NOBODYS.session_id, force: true })
    await call('ops', 'DELETE', `/containers/worker/${NOBODYS.worker_id}`)
  })
})

describe('rows 34 and 41: what is another’s', () => {
  it.each(['bert', 'bertService', 'bertToken'])('is, for %s, told exactly as what there is not', async (who) => {
    const wrong: string[] = []
    for (const route of own()) {
      const names = parametersOf(route).filter((name) => OWNED.includes(name))
      const { url, body } = addressOf(route, annas)
      const named = body !== undefined && ('session_id' in body || 'worker_id' in body)
      if (names.length === 0 && !named) continue
      if (isMinting(route) && who !== 'bertService') continue
      if (isForKeys(route) && who === 'bertToken') continue
      const foreign = await call(who, route.method, url, body)
      cases += 1
      const absent = await call(who, route.method, ...(Object.values(addressOf(route, NOBODYS)) as [string, object]))
      cases += 1
      if (route.method === 'HEAD') {
        if (foreign.status !== 404) wrong.push(`${nameOf(route)}: ${foreign.status}`)
        continue
      }
      if (foreign.status !== 404 || foreign.code !== 'not_found') {
        wrong.push(`${nameOf(route)}: ${foreign.status} ${foreign.text.slice(0, 200)}`)
        continue
      }
      // A worker's name is one of the whole installation: who asks for it learns that it is taken.
      const namesWorker = body !== undefined && /\/(?:start|ensure)$/.test(route.url)
      // What a caller may begin is free where it is nobody's.
      if (!namesWorker && absent.status === 404 && anonymous(foreign, annas) !== anonymous(absent, NOBODYS)) {
        wrong.push(`${nameOf(route)}: told apart: ${foreign.text} ${absent.text}`)
      }
    }
    expect(wrong).toEqual([])
    await call('ops', 'POST', '/containers/cleanup/session', { session_id: NOBODYS.session_id, force: true })
    await call('ops', 'DELETE', `/containers/worker/${NOBODYS.worker_id}`)
  })

  it('is mixed with what is one’s own in no call', async () => {
    const berts: Ids = { ...annas, session_id: 'berts', worker_id: 'berts-worker' }
    for (const [method, url, body] of [
      ['GET', `/containers/worker/${berts.worker_id}/exec/${annas.exec_id}`],
      ['DELETE', `/containers/worker/${berts.worker_id}/exec/${annas.exec_id}`],
      ['POST', '/containers/worker/start', { worker_id: 'new', session_id: annas.session_id, image: TOOLBOX }],
      ['POST', '/containers/worker/start', { worker_id: annas.worker_id, session_id: 'berts', image: TOOLBOX }],
      ['POST', `/containers/worker/${annas.worker_id}/ensure`, { session_id: 'berts', image: TOOLBOX }],
      ['POST', '/containers/worker/new/ensure', { session_id: annas.session_id, image: TOOLBOX }],
    ] as const) {
      const told = await call('bert', method, url, body)
      expect([told.status, told.code], `${method} ${url}`).toEqual([404, 'not_found'])
      cases += 1
    }
  })

  it('is in no list, whatever is asked of it', async () => {
    const lists = own().filter(
      (route) => route.method === 'GET' && parametersOf(route).length === 0 && !isMetrics(route),
    )
    expect(lists.length).toBeGreaterThan(4)
    for (const { url } of lists) {
      for (const query of ['', '?limit=1000', `?session_id=${annas.session_id}`]) {
        const told = await call('bert', 'GET', url + query)
        for (const id of Object.values(annas)) {
          if (query.includes(id)) continue
          expect(told.text, `GET ${url}${query}`).not.toContain(id)
        }
        cases += 1
      }
    }
  })

  it('is untouched after all of that, and its owner’s', async () => {
    for (const [url, status] of [
      [`/containers/relic/${annas.relic_id}`, 'healthy'],
      [`/containers/worker/${annas.worker_id}`, 'running'],
      [`/containers/tool/${annas.execution_id}`, 'completed'],
    ]) {
      expect(JSON.parse((await call('anna', 'GET', String(url))).text).status, url).toBe(status)
    }
    const isGentle = (route: Route) =>
      route.method === 'GET' && parametersOf(route).length > 0 && !route.url.includes('*')
    for (const route of own().filter(isGentle)) {
      const { url } = addressOf(route, annas)
      // Nobody serves the port of this relic.
      const expected = route.url.endsWith('/proxy') ? [502, 'relic_unreachable'] : [200, undefined]
      const { status, code } = await call('anna', 'GET', url)
      expect([status, code], url).toEqual(expected)
      cases += 1
    }
    await report('Who may do what to whose (rows 34 and 41)', {
      routes: own().length,
      callers: CALLERS.length,
      cases,
      leaks: 0,
    })
  })
})

/** An answer without what names the thing that was asked for, and the request. */
function anonymous({ text }: Told, ids: Ids): string {
  const { request_id: _, ...rest } = JSON.parse(text) as Record<string, unknown>
  return Object.values(ids).reduce((told, id: string) => told.replaceAll(id, 'ID'), JSON.stringify(rest))
}
