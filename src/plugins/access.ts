/** Who calls, and whether they may: before anything else is done, and for every route there is. */
import type { FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import fp from 'fastify-plugin'
import type { Access, OwnedField, RestrictedAccess } from '../domain/access.ts'
import { ANYONE, type Caller, mayMint } from '../domain/caller.ts'
import { AppError } from '../errors.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: Access
  }
  interface FastifyRequest {
    caller: Caller
    /** It named something that the caller does not see. */
    isUnseen: boolean
  }
}

/** Whoever knows the keys and tokens that are given out. */
export interface Authenticator {
  /** The caller that a bearer token stands for; undefined where it stands for none. */
  authenticate(bearer: string): Promise<Caller | undefined>
}

/** Whoever knows whose things are. */
export interface Owners {
  /** Throws `not_found` for what the caller does not see. */
  require(
    caller: Caller,
    kind: OwnedField['kind'],
    id: string,
    options: { mayBeNew: boolean; mayBeGone: boolean },
  ): Promise<void>
}

export interface AccessOptions {
  /** Undefined where no keys are given out: whoever reaches the service may do everything. */
  authenticator: Authenticator | undefined
  owners: Owners
}

const BEARER = /^bearer +([\x21-\x7e]+)$/i

export const access = fp<AccessOptions>(async (app, { authenticator, owners }) => {
  // Set by the first hook, before anyone reads it.
  app.decorateRequest('caller', null as unknown as Caller)
  app.decorateRequest('isUnseen', false)
  const routes: RouteOptions[] = []
  app.addHook('onRoute', (route) => {
    routes.push(route)
  })
  app.addHook('onReady', async () => routes.forEach(requireDeclared))

  if (authenticator === undefined) {
    app.addHook('onRequest', (request, _reply, done) => {
      request.caller = ANYONE
      done()
    })
  } else {
    app.addHook('onRequest', async (request) => {
      request.caller = await callerOf(request, accessOf(request), authenticator)
    })
  }

  // Behind the rate limit: calls that a key may not make count as well.
  app.addHook('preParsing', (request, _reply, payload, done) => {
    const declared = accessOf(request)
    if (declared !== 'public') requireRights(request.caller, declared)
    done(null, payload)
  })

  app.addHook('preHandler', (request, _reply, done) => {
    const declared = accessOf(request)
    if (declared === 'public') return done()
    if (declared.builds) requireBuild(request)
    // Who sees all is told by whoever acts on it.
    if (declared.owns === undefined || request.caller.reach === 'all') return done()
    requireAllOwn(request, declared.owns, owners).then(() => done(), done)
  })
})

async function requireAllOwn(request: FastifyRequest, owns: readonly OwnedField[], owners: Owners): Promise<void> {
  for (const owned of owns) await requireOwn(request, owned, owners)
}

/** A route without a word on who may call it ends the start. */
function requireDeclared(route: RouteOptions): void {
  if (route.config?.access !== undefined) return
  throw new Error(`${String(route.method)} ${route.url} does not say who may call it: give it config.access`)
}

/** What is no route is told to whoever is known. */
function accessOf(request: FastifyRequest): Access {
  return request.routeOptions.config.access ?? { scopes: [] }
}

/** The key or token that a call came with, known or not. */
export function bearerOf({ headers }: FastifyRequest): string | undefined {
  return BEARER.exec(headers.authorization ?? '')?.[1]
}

async function callerOf(request: FastifyRequest, declared: Access, authenticator: Authenticator): Promise<Caller> {
  const bearer = bearerOf(request)
  const caller = bearer === undefined ? undefined : await authenticator.authenticate(bearer)
  if (caller !== undefined) return caller
  if (declared === 'public') return NOBODY
  throw new AppError(
    'unauthenticated',
    request.headers.authorization === undefined
      ? 'This call needs a key'
      : 'The key is not known, has expired or was revoked',
    { hint: 'Send "Authorization: Bearer <key>". An operator makes keys with `npm run keys -- create`.' },
  )
}

/** Whoever calls a public route without a key. */
const NOBODY: Caller = { ...ANYONE, role: 'agent', scopes: new Set(), reach: 'own' }

function requireRights(caller: Caller, { scopes, reach, keysOnly, mints }: RestrictedAccess): void {
  if (scopes.length > 0 && !scopes.some((scope) => caller.scopes.has(scope))) {
    throw new AppError('forbidden', `This key may not do that: it needs the scope ${scopes.join(' or ')}`, {
      hint: `It has: ${[...caller.scopes].join(', ') || 'none'}.`,
    })
  }
  if (reach === 'all' && caller.reach !== 'all') {
    throw new AppError('forbidden', 'This call is for callers who may see everything', {
      hint: 'Use a key with the role ops or cleanup, or the call for one session.',
    })
  }
  if (keysOnly && caller.session !== undefined) {
    throw new AppError('forbidden', 'A session token does not set how long its session lasts and what it may have')
  }
  // Where callers show no keys, whoever makes tokens says so.
  if (mints && caller.keyId !== null && !mayMint(caller)) {
    throw new AppError('forbidden', 'Session tokens are made by keys with the role service or ops')
  }
}

function requireBuild(request: FastifyRequest): void {
  const body = request.body as Record<string, unknown> | null
  if (body?.['dockerfile'] === undefined && body?.['build'] === undefined) return
  if (request.caller.scopes.has('build')) return
  throw new AppError('forbidden', 'This key may not build images: it needs the scope build', {
    hint: 'Name an image instead, or use a key with that scope.',
  })
}

async function requireOwn(request: FastifyRequest, { kind, in: place, field, ...may }: OwnedField, owners: Owners) {
  const id = (request[place] as Record<string, unknown> | null | undefined)?.[field]
  // What a schema leaves optional may be left out.
  if (typeof id !== 'string') return
  try {
    await owners.require(request.caller, kind, id, {
      mayBeNew: may.mayBeNew === true,
      mayBeGone: may.mayBeGone === true,
    })
  } catch (error) {
    request.isUnseen = error instanceof AppError && error.code === 'not_found'
    throw error
  }
}

/** Tells a caller without a key how to send one. */
export function challenge(reply: FastifyReply): void {
  reply.header('www-authenticate', 'Bearer realm="container-orchestrator"')
}
