/** Bare Fastify in a process of its own: the floor for a service that answers JSON over HTTP. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { request } from 'undici'

export interface BareFastify extends AsyncDisposable {
  url: string
  /** From the start of the process to its first answer. */
  readyMs: number
}

/** Answers a document to `GET /containers/tool/{any}`. */
export async function startBareFastify(document: object): Promise<BareFastify> {
  const folder = await mkdtemp(join(tmpdir(), 'co-bench-fastify-'))
  const file = join(folder, 'document.json')
  await writeFile(file, JSON.stringify(document))
  const began = performance.now()
  const child = spawn(process.execPath, [join(import.meta.dirname, 'fastify-server.ts'), file], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  })
  const exited = once(child, 'exit')
  const dispose = async () => {
    child.kill('SIGKILL')
    await exited
    await rm(folder, { recursive: true, force: true })
  }
  try {
    const line = once(createInterface({ input: child.stdout }), 'line')
    const [url] = (await Promise.race([line, exited])) as [unknown]
    if (typeof url !== 'string') throw new Error(`bare Fastify ended with ${String(url)}`)
    const answer = await request(`${url}/containers/tool/any`)
    await answer.body.dump()
    return { url, readyMs: performance.now() - began, [Symbol.asyncDispose]: dispose }
  } catch (error) {
    await dispose()
    throw error
  }
}
