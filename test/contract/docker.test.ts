import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { TOOLBOX, UNREACHABLE } from '../fixtures/images.ts'
import { describeEngineContract } from './engine-contract.ts'

describeEngineContract('Docker', async () => {
  const engine = await DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' })
  return {
    engine,
    image: TOOLBOX,
    oomCommand: ['sh', '-c', 'x=a; while :; do x=$x$x; done'],
    unpullable: { reference: UNREACHABLE, fault: 'pull_failed' },
    close: () => engine.close(),
  }
})
