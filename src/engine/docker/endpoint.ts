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
  const [, socketPath] = /^unix:\/\/(\/.*)$/.exec(host) ?? []
  if (socketPath !== undefined) return { socketPath }
  const [, scheme, name, port] = /^(tcp|https?):\/\/(\[[0-9a-fA-F:.]+\]|[^/:[\]]+)(?::(\d{1,5}))?\/?$/.exec(host) ?? []
  if (name === undefined) {
    throw new Error(`DOCKER_HOST "${host}" is not supported: use unix:///path or tcp://host:port`)
  }
  if (scheme === 'https' && certPath === undefined) {
    throw new Error(`DOCKER_HOST "${host}" needs DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH`)
  }
  // A socket takes an IPv6 address without its brackets.
  const address = name.replace(/^\[|\]$/g, '')
  if (certPath === undefined) return { host: address, port: Number(port ?? 2375) }
  const read = (file: string) => readFileSync(join(certPath, file))
  const tls = { ca: read('ca.pem'), cert: read('cert.pem'), key: read('key.pem') }
  return { host: address, port: Number(port ?? 2376), tls }
}
