/** Names of this service in requests: the `Host` that a caller wrote, and the `Origin` of a page. */
import { isIPv4, isIPv6 } from 'node:net'

/** A host and port as a header writes them, in the one form that compares. */
export interface Authority {
  /** Lower case, without a trailing dot; IPv6 without its brackets. */
  readonly host: string
  readonly kind: 'address' | 'name'
  readonly port: number | undefined
}

// A label may begin with an underscore, and container names hold some.
const NAME = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*$/
const LONGEST_NAME = 253
const HIGHEST_PORT = 65_535

/**
 * Reads `host`, `host:port` or `[v6]:port`. Undefined for all else: user information, paths, lists,
 * escapes, zone ids, empty hosts and ports.
 */
export function readAuthority(text: string): Authority | undefined {
  const [, bracketed, bare, digits] = /^(?:\[([^\]]*)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text) ?? []
  const port = digits === undefined ? undefined : Number(digits)
  if (port !== undefined && port > HIGHEST_PORT) return undefined
  if (bracketed !== undefined) {
    // isIPv6 takes a zone id, which is a matter between a client and its own interfaces.
    if (!isIPv6(bracketed) || bracketed.includes('%')) return undefined
    return { host: canonicalV6(bracketed), kind: 'address', port }
  }
  if (bare === undefined) return undefined
  const host = bare.toLowerCase().replace(/\.$/, '')
  if (isIPv4(host)) return { host, kind: 'address', port }
  return host.length <= LONGEST_NAME && NAME.test(host) ? { host, kind: 'name', port } : undefined
}

/** Reads an `Origin` of a page that came by HTTP, with the port that its scheme implies. Undefined for all else, `null` too. */
export function readOrigin(text: string): (Authority & { port: number; impliedPort: number }) | undefined {
  const [, scheme, rest = ''] = /^(https?):\/\/(.*)$/i.exec(text) ?? []
  if (scheme === undefined) return undefined
  const authority = readAuthority(rest)
  if (authority === undefined) return undefined
  const impliedPort = scheme.toLowerCase() === 'https' ? 443 : 80
  return { ...authority, port: authority.port ?? impliedPort, impliedPort }
}

/** The form that the URL standard gives an address, so that its spellings compare. */
function canonicalV6(address: string): string {
  return new URL(`http://[${address}]`).hostname.slice(1, -1)
}
