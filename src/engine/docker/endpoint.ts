import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Where an engine listens, as `DOCKER_HOST`, `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH` tell it. */
export type EngineEndpoint =
  | { socketPath: string }
  | { host: string; port: number; tls?: { ca: Buffer; cert: Buffer; key: Buffer } }

export interface EngineAddress {
  /** `unix:///path`, `tcp://host:port` or `http(s)://host:port`. */
  host: string
  /** Folder with ca.pem, cert.pem and key.pem; TLS is used where it is given. */
  certPath?: string | undefined
}

/** Reads an engine's address; throws an `Error` that names what is wrong with it. */
export function parseEndpoint({ host, certPath }: EngineAddress): EngineEndpoint {
  if (host.startsWith('unix://')) return { socketPath: host.slice('unix://'.length) }
  if (!/^(tcp|https?):\/\//.test(host)) {
    throw new Error(`DOCKER_HOST "${host}" is not supported: use unix:///path or tcp://host:port`)
  }
  const url = new URL(host.replace(/^tcp:/, 'http:'))
  const secure = certPath !== undefined || url.protocol === 'https:'
  const port = url.port === '' ? (secure ? 2376 : 2375) : Number(url.port)
  if (certPath === undefined) return { host: url.hostname, port }
  const read = (name: string) => readFileSync(join(certPath, name))
  return { host: url.hostname, port, tls: { ca: read('ca.pem'), cert: read('cert.pem'), key: read('key.pem') } }
}
