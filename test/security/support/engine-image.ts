/** Images that somebody made on the engine, without the service. */
import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { pack } from 'tar-stream'
import { callEngine } from '../../../scripts/engine-client.ts'

export async function buildOnEngine(dockerfile: string): Promise<string> {
  const tag = `container-orchestrator-test/security:${randomUUID().slice(0, 8)}`
  const context = pack()
  context.entry({ name: 'Dockerfile' }, dockerfile)
  context.finalize()
  const query = new URLSearchParams({ t: tag, rm: 'true' })
  const output = await text(await callEngine('POST', `/build?${query}`, Readable.from(context)))
  if (output.includes('"error"')) throw new Error(output.slice(-2_000))
  return tag
}

/** Makes another tag for an image, or takes one over. */
export async function tagOnEngine(image: string, reference: string): Promise<void> {
  const at = reference.lastIndexOf(':')
  const query = new URLSearchParams({ repo: reference.slice(0, at), tag: reference.slice(at + 1) })
  await text(await callEngine('POST', `/images/${image}/tag?${query}`))
}

export async function removeFromEngine(tag: string): Promise<void> {
  await text(await callEngine('DELETE', `/images/${tag}?force=true`))
}
