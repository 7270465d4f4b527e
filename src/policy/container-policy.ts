/** From a request and a profile to what the engine is asked for: pure, and the only way there. */

import type { z } from 'zod'
import type { Gpu } from '../domain/common.ts'
import type { StartRelic } from '../domain/relic.ts'
import type { ExecuteTool } from '../domain/tool.ts'
import type { ContainerSpec, GpuSpec, MountSpec, ResourceSpec, SandboxSpec } from '../engine/spec.ts'
import type { Profile } from './profiles.ts'
import { toolEnvironment } from './tool-environment.ts'

/** A container as policy decides it, before it has a name, an image and a place. */
export type ContainerPlan = Omit<ContainerSpec, 'name' | 'imageId' | 'labels' | 'network'>

const MIB = 1024 * 1024

export function planTool(
  request: ExecuteTool,
  executionId: string,
  profile: Profile,
  mounts: readonly MountSpec[],
): ContainerPlan {
  return {
    ...toolContainer(request.resource_limits, profile, mounts),
    ...argv(request),
    environment: { ...homeOf(profile), ...toolEnvironment(request, executionId) },
    openStdin: request.stdin !== undefined,
    ...gpuSpec(request.gpu),
  }
}

/**
 * A tool's container whose first process waits on stdin to be told what to run: of the request it has
 * nothing but its limits.
 */
export function planParkedTool(
  request: Pick<ExecuteTool, 'resource_limits'>,
  profile: Profile,
  mounts: readonly MountSpec[],
  program: readonly string[],
): ContainerPlan {
  return {
    ...toolContainer(request.resource_limits, profile, mounts),
    entrypoint: program,
    environment: homeOf(profile),
    openStdin: true,
  }
}

function toolContainer(limits: ExecuteTool['resource_limits'], profile: Profile, mounts: readonly MountSpec[]) {
  return {
    ...(profile.user === undefined ? {} : { user: profile.user }),
    resources: resources(limits, profile),
    sandbox: sandbox(profile, mounts),
    mounts,
    ports: [],
  }
}

/** No image's home can be written to under a read-only root. */
function homeOf({ readonlyRoot }: Profile): Record<string, string> {
  return readonlyRoot ? { HOME: '/tmp' } : {}
}

export function planRelic(request: StartRelic, profile: Profile, mounts: readonly MountSpec[]): ContainerPlan {
  return {
    ...argv(request),
    environment: {
      ...request.environment,
      ...(profile.readonlyRoot && request.environment['HOME'] === undefined ? { HOME: '/tmp' } : {}),
    },
    ...(profile.user === undefined ? {} : { user: profile.user }),
    openStdin: false,
    resources: resources(request.resource_limits, profile),
    sandbox: sandbox(profile, mounts),
    mounts,
    // An engine publishes no port of an internal network: managers/port-forwarder.ts does.
    ports: [],
    ...gpuSpec(request.gpu),
  }
}

/** A container that is made and never started: it shows an image's files, and fills empty volumes with them. */
export function planUnstarted(mounts: readonly MountSpec[] = []): ContainerPlan {
  return {
    // The engine asks for a command, and some images have none.
    entrypoint: ['none'],
    environment: {},
    openStdin: false,
    resources: { memoryBytes: 16 * MIB, cpus: 1, pids: 8, openFiles: { soft: 64, hard: 64 } },
    sandbox: { readonlyRoot: true, capabilities: [], tmpfs: [] },
    mounts,
    ports: [],
  }
}

/** A container for a program of the service's own, which needs no more than its mounts. */
export function planProgram(
  program: readonly string[],
  mounts: readonly MountSpec[],
  runtime: string | undefined,
): ContainerPlan {
  const { sandbox, resources, ...plan } = planUnstarted(mounts)
  return {
    ...plan,
    entrypoint: program,
    resources: { ...resources, memoryBytes: 64 * MIB, pids: 64 },
    sandbox: { ...sandbox, ...(runtime === undefined ? {} : { runtime }) },
  }
}

function argv(request: { entrypoint?: readonly string[] | undefined; command?: readonly string[] | undefined }) {
  return {
    ...(request.entrypoint === undefined ? {} : { entrypoint: request.entrypoint }),
    ...(request.command === undefined ? {} : { command: request.command }),
  }
}

function resources(
  limits: { memory_mb: number; cpu_limit: number; pids_limit: number },
  profile: Profile,
): ResourceSpec {
  return {
    memoryBytes: limits.memory_mb * MIB,
    cpus: limits.cpu_limit,
    pids: limits.pids_limit,
    openFiles: profile.openFiles,
  }
}

function sandbox(profile: Profile, mounts: readonly MountSpec[]): SandboxSpec {
  // A mount that the caller placed at /tmp takes the tmpfs's place.
  const tmpIsMounted = mounts.some((mount) => mount.target === '/tmp')
  return {
    readonlyRoot: profile.readonlyRoot,
    capabilities: profile.capabilities,
    tmpfs: tmpIsMounted ? [] : [{ target: '/tmp', bytes: profile.tmpBytes }],
    ...(profile.runtime === undefined ? {} : { runtime: profile.runtime }),
  }
}

export function gpuSpec(request: z.infer<typeof Gpu> | undefined): { gpu?: GpuSpec } {
  if (request === undefined) return {}
  return {
    gpu: {
      count: request.count,
      deviceIds: request.device_ids,
      capabilities: request.capabilities,
      driver: request.driver,
    },
  }
}
