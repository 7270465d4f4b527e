/**
 * The container engine as set-up and tests need it: is it there, which images has it, build one.
 * Plain HTTP over the engine's own API: no docker command is needed, and it starts in milliseconds.
 */
import { existsSync, readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { parseEnv } from 'node:util'
import { parseEndpoint } from '../src/engine/docker/endpoint.ts'

const DEFAULT_HOST = 'unix:///var/run/docker.sock'

/** An engine that has not answered by then is stuck. */
const ANSWER_MS = 10_000

/** Nobody answers where the engine should be. */
export class EngineAway extends Error {}

/** Where the engine listens, as the service reads it: the environment, then `.env`. */
export function engineAddress(): { host: string; certPath: string | undefined; isDefault: boolean } {
  const fromFile = existsSync('.env') ? parseEnv(readFileSync('.env', 'utf8')) : {}
  const read = (name: string) => process.env[name] || fromFile[name] || undefined
  const host = read('DOCKER_HOST')
  const certPath = read('DOCKER_TLS_VERIFY') ? (read('DOCKER_CERT_PATH') ?? '.') : undefined
  return { host: host ?? DEFAULT_HOST, certPath, isDefault: host === undefined }
}

/** One call to the engine; its answer's body is still to be read. */
export async function callEngine(
  method: string,
  path: string,
  body?: Readable,
  headers: Record<string, string> = {},
): Promise<http.IncomingMessage> {
  const address = engineAddress()
  const endpoint = parseEndpoint(address)
  const secure = 'tls' in endpoint && endpoint.tls !== undefined
  const request = secure
    ? https.request({ method, path, headers, host: endpoint.host, port: endpoint.port, ...endpoint.tls })
    : http.request({ method, path, headers, ...endpoint })
  const answer = new Promise<http.IncomingMessage>((resolve, reject) => {
    request.once('response', resolve)
    request.once('error', (cause) => reject(new EngineAway(`${address.host}: ${cause.message}`, { cause })))
  })
  if (body === undefined) {
    request.setTimeout(ANSWER_MS, () => request.destroy(new Error(`no answer within ${ANSWER_MS / 1_000} s`)))
    request.end()
  } else {
    request.setHeader('content-type', 'application/x-tar')
    // The answer to a refused body can come before its end, so the answer settles the call.
    pipeline(body, request).catch((error: Error) => request.destroy(error))
  }
  return answer
}

/** The body of a call that answers with JSON; throws the engine's own words where it refuses. */
export async function askEngine<T>(method: string, path: string): Promise<T> {
  const answer = await callEngine(method, path)
  const body = await text(answer)
  if (answer.statusCode === undefined || answer.statusCode >= 300) {
    throw new Error(`the engine answered ${answer.statusCode} to ${method} ${path}: ${body.trim()}`)
  }
  return JSON.parse(body) as T
}

export interface LocalImage {
  id: string
  references: readonly string[]
  labels: Readonly<Record<string, string>>
}

/** The images that carry a label of this name. */
export async function listImages(label: string): Promise<LocalImage[]> {
  const filters = encodeURIComponent(JSON.stringify({ label: [label] }))
  const images = await askEngine<{ Id: string; RepoTags: string[] | null; Labels: Record<string, string> | null }[]>(
    'GET',
    `/images/json?filters=${filters}`,
  )
  return images.map((image) => ({ id: image.Id, references: image.RepoTags ?? [], labels: image.Labels ?? {} }))
}

/** Builds an image from a tar with a `Dockerfile` in it; throws with the output's tail where a step fails. */
export async function buildImage(context: Readable, reference: string, labels: Record<string, string>): Promise<void> {
  const query = new URLSearchParams({
    t: reference,
    labels: JSON.stringify(labels),
    // What an image needs is in its context.
    networkmode: 'none',
    forcerm: 'true',
  })
  const answer = await callEngine('POST', `/build?${query}`, context)
  const output: string[] = []
  let failure: string | undefined
  for await (const line of createInterface({ input: answer })) {
    // Docker answers 200 and reports a failed step inside the stream.
    const { stream, error, message } = JSON.parse(line) as { stream?: string; error?: string; message?: string }
    if (stream !== undefined) output.push(stream)
    failure ??= error ?? message
  }
  if (failure !== undefined) throw new Error(`${output.slice(-20).join('')}${failure}`)
}
