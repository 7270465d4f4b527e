/**
 * Keeps pages of browsers out. A page on another site may make a browser send requests here, and by DNS
 * rebinding even under a name of its own; but it cannot choose the `Host` and `Origin` that the browser
 * writes. No CORS header is ever sent.
 */
import type { IncomingMessage } from 'node:http'
import fp from 'fastify-plugin'
import { AppError } from '../errors.ts'
import { type Authority, readAuthority, readOrigin } from './authority.ts'

export interface HostCheckOptions {
  /** Names beside those without a dot by which callers reach the service, lower case; `*` for any. */
  allowedHosts: readonly string[]
}

export const hostCheck = fp<HostCheckOptions>(async (app, { allowedHosts }) => {
  const allowed = new Set(allowedHosts)
  const read = rememberingLast(readAuthority)
  app.addHook('onRequest', ({ raw }, _reply, done) => {
    checkCaller(raw, allowed, read)
    done()
  })
})

/** Most callers come by one name: what it says is read once. */
function rememberingLast<T>(read: (text: string) => T): (text: string) => T {
  let last: { text: string; value: T } | undefined
  return (text) => {
    if (last?.text !== text) last = { text, value: read(text) }
    return last.value
  }
}

/** Throws where a request does not come by a name of this service, or comes from a page of another one. */
function checkCaller(request: IncomingMessage, allowed: ReadonlySet<string>, read: typeof readAuthority): void {
  const host = theHost(request, read)
  if (!isOurs(host, allowed)) {
    throw new AppError('forbidden', `This service is not reached by the name ${host.host}`, {
      hint: 'Use an address or a name without a dot; the operator allows others with CO_ALLOWED_HOSTS.',
    })
  }
  const origin = request.headers.origin
  const isElsewhere = origin !== undefined && !isSame(host, origin)
  if (isElsewhere || request.headers['sec-fetch-site'] === 'cross-site') {
    throw new AppError('forbidden', 'A page of another site cannot call this service', {
      hint: 'Call it from a program, or from a page that has the same host and port; there is no CORS.',
    })
  }
}

function theHost({ headers, rawHeaders }: IncomingMessage, read: typeof readAuthority): Authority {
  // `headers` holds the first of several.
  let count = 0
  for (let index = 0; index < rawHeaders.length; index += 2) {
    if (rawHeaders[index]?.length === 4 && rawHeaders[index]?.toLowerCase() === 'host') count += 1
  }
  const host = count === 1 ? read(headers.host ?? '') : undefined
  if (host === undefined) {
    throw new AppError('validation_failed', 'A request has one Host header, with a name or address and perhaps a port')
  }
  return host
}

/** Addresses cannot be rebound, and a name without a dot is no site's. */
function isOurs({ host, kind }: Authority, allowed: ReadonlySet<string>): boolean {
  return kind === 'address' || !host.includes('.') || allowed.has(host) || allowed.has('*')
}

/** True where a page's origin is what the request went to. A Host without a port means that of the page's scheme. */
function isSame(host: Authority, originHeader: string): boolean {
  const origin = readOrigin(originHeader)
  return origin !== undefined && origin.host === host.host && origin.port === (host.port ?? origin.impliedPort)
}
