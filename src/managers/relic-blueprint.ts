/** From a relic's request to its container: image, network and volumes, made ready side by side. */
import { AppError } from '../errors.ts'
import { planRelic } from '../policy/container-policy.ts'
import { throughProxy } from '../policy/egress-proxy.ts'
import type { Profile } from '../policy/profiles.ts'
import type { VolumeDecision } from '../policy/volumes.ts'
import { requireWorkingDir } from '../policy/working-dir.ts'
import type { DockerManager } from './docker-manager.ts'
import type { EgressManager } from './egress-manager.ts'
import type { ImageManager, ResolvedImage } from './image-manager.ts'
import type { NetworkManager, SessionNetwork } from './network-manager.ts'
import type { RelicRecord } from './relic-record.ts'
import type { Toolbox } from './toolbox.ts'
import type { VolumeResolver } from './volume-resolver.ts'

export interface RelicBlueprintDeps {
  docker: DockerManager
  networks: NetworkManager
  egress: EgressManager
  images: ImageManager
  volumes: VolumeResolver
  toolbox: Toolbox
}

export interface RelicDecision {
  profile: Profile
  volumes: readonly VolumeDecision[]
}

export interface MadeRelic {
  id: string
  image: ResolvedImage
  network: SessionNetwork
}

/** Creates the container, without starting it. */
export async function createRelic(
  { docker, egress, images, networks, toolbox, volumes }: RelicBlueprintDeps,
  { entry, request }: RelicRecord,
  decision: RelicDecision,
  signal: AbortSignal,
): Promise<MadeRelic> {
  const [image, network, mounts, tools] = await Promise.all([
    images.resolve(request, { session: entry.sessionId, owner: entry.owner }, signal),
    request.create_private_network ? networks.ensure(entry.sessionId) : presentNetwork(networks, entry.sessionId),
    volumes.within(decision.profile.hostRoots).resolve(decision.volumes, { session: entry.sessionId, open: false }),
    toolbox.mount(),
  ])
  requireWorkingDir(image)
  const { profile } = decision
  if (profile.egress !== undefined) await egress.ensure(entry.sessionId, profile)
  signal.throwIfAborted()
  const plan = planRelic(request, profile, [...mounts, tools])
  const id = await docker.create({
    owner: {
      kind: 'relic',
      id: entry.id,
      session: entry.sessionId,
      owner: entry.owner ?? undefined,
      name: entry.name,
      nonce: entry.nonce,
    },
    containerName: entry.view.container_name,
    imageId: image.id,
    plan: profile.egress === undefined ? plan : throughProxy(plan, profile.name),
    network: { mode: 'network', networkId: network.id, aliases: [entry.name] },
    labels: request.labels,
  })
  return { id, image, network }
}

async function presentNetwork(networks: NetworkManager, sessionId: string): Promise<SessionNetwork> {
  const network = await networks.get(sessionId)
  if (network !== undefined) return network
  throw new AppError('conflict', `Session "${sessionId}" has no network yet`, {
    hint: 'Leave create_private_network out, or start the relic that makes the network first.',
  })
}
