import { randomUUID } from 'node:crypto'
import { timestamp } from '../domain/common.ts'
import type { Snapshot } from '../domain/worker.ts'
import type { Engine } from '../engine/engine.ts'
import { AppError } from '../errors.ts'
import { encodeLabels, NONCE_LABEL } from '../labels.ts'
import { identityNames } from '../policy/worker-environment.ts'
import type { Store } from '../store/store.ts'
import { IDLE_COMMAND } from './toolbox-programs.ts'
import type { WorkerEntry } from './worker-record.ts'

const REPOSITORY = 'container-orchestrator/snapshot'

/**
 * Commits a worker's container to an image that says what the worker's own image says: of the
 * container's configuration no command and no value of a variable goes into it. A worker in a session
 * leaves images that go with the session.
 */
export async function takeSnapshot(
  { engine, store, environmentPrefixes }: { engine: Engine; store: Store; environmentPrefixes: readonly string[] },
  entry: WorkerEntry,
  name: string,
): Promise<Snapshot> {
  const { view, containerId } = entry
  const state = containerId === null ? undefined : await engine.containers.inspect(containerId)
  const image = state === undefined ? undefined : await engine.images.inspect(state.imageId)
  if (state === undefined || image === undefined) {
    throw new AppError('conflict', `Worker "${view.worker_id}" has no container that an image could be made of`)
  }
  const nonce = randomUUID()
  const reference = `${REPOSITORY}:${name}`
  if ((await engine.images.inspect(reference)) !== undefined) {
    throw new AppError('conflict', `There is a snapshot "${name}" already`, {
      hint: 'Choose another name, or leave it out.',
    })
  }
  const command = image.command.length > 0 || image.entrypoint.length > 0 ? image.command : IDLE_COMMAND
  const imageId = await engine.containers.commit(state.id, {
    reference,
    labels: encodeLabels({
      instance: store.instance,
      kind: 'image',
      id: reference,
      session: entry.sessionId || undefined,
      owner: entry.owner ?? undefined,
      name: view.worker_id,
      nonce,
    }),
    entrypoint: image.entrypoint,
    command,
    user: image.user,
    workingDir: image.workingDir,
    // All that the service sets in a container itself.
    blankVariables: ['HOME', 'GIT_CONFIG_SYSTEM', ...identityNames(environmentPrefixes)],
  })
  return { worker_id: view.worker_id, image: reference, image_id: imageId, created_at: timestamp() }
}

/** A snapshot that was made of this worker under a name; its time is that of the question, which is all that is known. */
export async function findSnapshot(
  { engine, store }: { engine: Engine; store: Store },
  workerId: string,
  name: string,
): Promise<Snapshot | undefined> {
  const reference = `${REPOSITORY}:${name}`
  const { [NONCE_LABEL]: _, ...labels } = encodeLabels({
    instance: store.instance,
    kind: 'image',
    id: reference,
    name: workerId,
    nonce: '',
  })
  const [imageId] = await engine.images.list(labels)
  return imageId === undefined
    ? undefined
    : { worker_id: workerId, image: reference, image_id: imageId, created_at: timestamp() }
}
