/** testcontainers for Node, on an image that is there: a container on a network of its own, until it is healthy. */
import { randomUUID } from 'node:crypto'
import { engineAddress } from '../../scripts/engine-client.ts'
import { HTTPD } from '../bare-engine.ts'
import { type Bench, labelsOf } from '../bench.ts'

interface Started {
  remove(): Promise<void>
}

export interface Testcontainers {
  version: string
  /** Makes a network, and starts the web server on it until its `/health` answers. */
  start(): Promise<Started>
}

const PORT = 8000

/** Where it cannot be had, why not. */
export async function openTestcontainers(bench: Bench): Promise<Testcontainers | { absent: string }> {
  // Its reaper is an image that it would pull.
  process.env['TESTCONTAINERS_RYUK_DISABLED'] = 'true'
  process.env['DOCKER_HOST'] = engineAddress().host
  const library = await import('testcontainers').catch((error: Error) => ({ absent: error.message }))
  if ('absent' in library) return library
  const { GenericContainer, Network, Wait } = library
  return {
    version: await testcontainersVersion(),
    async start() {
      const network = await new Network({ nextUuid: () => `${bench.label[1]}-${randomUUID()}` }).start()
      const container = await new GenericContainer(HTTPD)
        .withNetwork(network)
        .withExposedPorts(PORT)
        .withLabels(labelsOf(bench))
        .withWaitStrategy(Wait.forHttp('/health', PORT))
        .start()
      return {
        async remove() {
          await container.stop()
          await network.stop()
        },
      }
    },
  }
}

export async function testcontainersVersion(): Promise<string> {
  const { default: manifest } = await import('testcontainers/package.json', { with: { type: 'json' } })
  return manifest.version
}
