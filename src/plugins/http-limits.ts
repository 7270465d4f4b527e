/** What callers may take of the service itself: connections, time and header bytes. */

export interface HttpLimits {
  /** Connections at once. */
  maxConnections: number
  /** Streams (events, followed logs and stats, WebSockets) that one caller has open at once. */
  maxStreams: number
  /** Time for the head of a request, from the connection or from its first byte. */
  headersMs: number
  /** How long a connection waits for its next request. */
  keepAliveMs: number
  /** Time for a body before it has to keep up the pace. */
  bodyGraceMs: number
  /** The least pace of a body, while the service is ready to take it. */
  bodyBytesPerSecond: number
  /** How long a caller may take nothing of what is sent to it. */
  stalledReaderMs: number
  /** How long a connection stays for a body that nobody reads any more. */
  lingerMs: number
}

export const DEFAULT_HTTP_LIMITS: Readonly<HttpLimits> = Object.freeze({
  maxConnections: 1024,
  maxStreams: 256,
  headersMs: 15_000,
  // Longer than the minute after which most proxies let go of a connection, so that they do so first.
  keepAliveMs: 72_000,
  bodyGraceMs: 20_000,
  bodyBytesPerSecond: 8 * 1024,
  stalledReaderMs: 60_000,
  lingerMs: 2_000,
})

/** Of the request line and all headers together. */
export const HEAD_BYTES = 16 * 1024
export const HEADERS = 100
export const URL_BYTES = 8 * 1024
export const QUERY_PARAMETERS = 100
