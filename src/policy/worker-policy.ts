/** From a worker's request and a profile to what the engine is asked for: pure. */
import { posix } from 'node:path'
import { parseMemorySize } from '../domain/memory-size.ts'
import type { Command, StartWorker } from '../domain/worker-spec.ts'
import type { HealthcheckSpec, MountSpec, SandboxSpec, TmpfsSpec } from '../engine/spec.ts'
import { type ContainerPlan, gpuSpec } from './container-policy.ts'
import type { Profile } from './profiles.ts'
import { isBeneath } from './volumes.ts'

/** Working directory of every worker, where its workspace is mounted. */
export const WORKSPACE_FOLDER = '/workspace'

const MIB = 1024 * 1024
/** Of the tmpfs that holds what no inspect shows. */
const PRIVATE_BYTES = 16 * MIB

/** What is known of a worker's container beside its request. */
export interface WorkerSetting {
  /** Its first process, with all its arguments. */
  argv: readonly string[]
  environment: Readonly<Record<string, string>>
  user: { uid: number; gid: number }
  home: string
  /** Where the service's private files go. */
  privateFolder: string
  mounts: readonly MountSpec[]
  healthcheck: HealthcheckSpec | undefined
}

export function planWorker(request: StartWorker, profile: Profile, setting: WorkerSetting): ContainerPlan {
  return {
    entrypoint: setting.argv.slice(0, 1),
    command: setting.argv.slice(1),
    environment: setting.environment,
    user: `${setting.user.uid}:${setting.user.gid}`,
    workingDir: WORKSPACE_FOLDER,
    openStdin: true,
    resources: {
      memoryBytes: memoryBytes(request),
      cpus: request.cpu_limit,
      pids: request.pids_limit,
      openFiles: request.nofile,
    },
    sandbox: sandbox(request, profile, setting),
    mounts: setting.mounts,
    // Published by managers/port-forwarder.ts, as for relics.
    ports: [],
    ...gpuSpec(request.gpu),
    ...(setting.healthcheck === undefined ? {} : { healthcheck: setting.healthcheck }),
  }
}

/** The memory limit of a worker, in bytes. */
export function memoryBytes(request: Pick<StartWorker, 'memory_limit'>): number {
  const bytes = parseMemorySize(request.memory_limit)
  if (bytes === undefined) throw new Error(`memory_limit "${request.memory_limit}" passed validation`)
  return bytes
}

/** What a process gets to run: the words of a command, by the form that the caller chose. */
export function commandForm(command: Command): readonly string[] {
  return typeof command === 'string' ? ['shell', command] : ['argv', ...command]
}

function sandbox(
  request: StartWorker,
  profile: Profile,
  { user, home, privateFolder, mounts }: WorkerSetting,
): SandboxSpec {
  const scratch: TmpfsSpec[] = [{ target: privateFolder, bytes: PRIVATE_BYTES, executable: true, owner: user }]
  for (const target of ['/tmp', home]) {
    // A mount that the caller placed there takes the tmpfs's place, and so does one around it.
    const taken = [...mounts, ...scratch].some((mount) => isBeneath(target, mount.target))
    if (taken || target === '/') continue
    // Agents build, install and run things there.
    scratch.push({ target: posix.normalize(target), bytes: profile.tmpBytes, executable: true, owner: user })
  }
  return {
    readonlyRoot: request.readonly_root && profile.readonlyRoot,
    capabilities: profile.capabilities,
    tmpfs: scratch,
    ...(profile.runtime === undefined ? {} : { runtime: profile.runtime }),
  }
}
