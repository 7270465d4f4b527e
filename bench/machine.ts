/** What a figure depends on beside the code: the machine, and the versions of all that is compared. */
import { readFile } from 'node:fs/promises'
import { availableParallelism, release, totalmem } from 'node:os'
import { askEngine } from '../scripts/engine-client.ts'
import { VERSION } from '../src/version.ts'
import { docker } from './rivals/docker-cli.ts'
import { openDockerPy } from './rivals/docker-py.ts'

export interface Machine {
  service: string
  cores: number
  memoryGib: number
  kernel: string
  engine: string
  node: string
  /** By name; null where there is none. */
  rivals: Record<string, string | null>
}

export async function readMachine(signal: AbortSignal): Promise<Machine> {
  const [engine, cli, dockerPy, testcontainers, fastify] = await Promise.all([
    askEngine<{ Version: string; ApiVersion: string }>('GET', '/version'),
    docker(['version', '--format', '{{.Client.Version}}'], { signal }).catch(() => null),
    dockerPyVersion(signal),
    packageVersion('testcontainers'),
    packageVersion('fastify'),
  ])
  return {
    service: VERSION,
    cores: availableParallelism(),
    memoryGib: Math.round(totalmem() / 1024 ** 3),
    kernel: release(),
    engine: `Docker ${engine.Version} (API ${engine.ApiVersion})`,
    node: process.version.slice(1),
    rivals: { 'docker CLI': cli?.trim() ?? null, 'docker-py': dockerPy, testcontainers, Fastify: fastify },
  }
}

/** One line for people. */
export function toldMachine({ service, cores, memoryGib, kernel, engine, node, rivals }: Machine): string {
  const versions = Object.entries(rivals).map(([name, version]) => `${name} ${version ?? '(absent)'}`)
  return [
    `container-orchestrator ${service}`,
    `${cores} cores`,
    `${memoryGib} GiB`,
    `Linux ${kernel}`,
    engine,
    `Node ${node}`,
    ...versions,
  ].join(' · ')
}

async function dockerPyVersion(signal: AbortSignal): Promise<string | null> {
  const dockerPy = await openDockerPy(signal)
  if ('absent' in dockerPy) return null
  await dockerPy[Symbol.asyncDispose]()
  return dockerPy.version
}

async function packageVersion(name: string): Promise<string | null> {
  const manifest = new URL(`../node_modules/${name}/package.json`, import.meta.url)
  const text = await readFile(manifest, 'utf8').catch(() => undefined)
  return text === undefined ? null : (JSON.parse(text) as { version: string }).version
}
