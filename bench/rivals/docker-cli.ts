/** The docker command, as a person types it. */
import { spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { engineAddress } from '../../scripts/engine-client.ts'
import { GREETING, TOOLBOX } from '../bare-engine.ts'
import type { Bench } from '../bench.ts'

/** What it wrote to stdout; `discard` has it write to /dev/null, as a shell's redirection does. */
export async function docker(args: readonly string[], { signal, discard = false }: DockerOptions): Promise<string> {
  const child = spawn('docker', args, {
    stdio: ['ignore', discard ? 'ignore' : 'pipe', 'pipe'],
    env: { ...process.env, DOCKER_HOST: engineAddress().host },
    signal,
  })
  const exit = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  const [status, output, errors] = await Promise.all([
    exit,
    child.stdout === null ? '' : text(child.stdout),
    text(child.stderr as Readable),
  ])
  if (status !== 0) throw new Error(`docker ${args[0]} ended with ${status}: ${errors}`)
  return output
}

interface DockerOptions {
  signal: AbortSignal
  discard?: boolean
}

export const DOCKER_RUN = 'docker run --rm --network none'

/** One run that says hello. */
export async function dockerRun({ label, signal }: Bench): Promise<void> {
  const args = ['run', '--rm', '--network', 'none', '--label', label.join('='), TOOLBOX, ...GREETING]
  if ((await docker(args, { signal })) !== 'hello\n') throw new Error('docker run wrote something else')
}
