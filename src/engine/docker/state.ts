/** The parts of inspect and list answers that are read, and their translation. */
import { z } from 'zod'
import type { ContainerState, ContainerSummary, EngineHealth } from '../engine.ts'
import { FullId } from './ids.ts'

/** RFC 3339, as Go writes it: with up to nine digits behind the seconds. */
export const Instant = z.string().refine((text) => !Number.isNaN(Date.parse(text)), 'not a time')

const Status = z.enum(['created', 'running', 'paused', 'exited', 'dead', 'restarting', 'removing'])
/** Podman's further words, by the nearest of Docker's. */
const PODMAN_STATUS: Record<string, z.infer<typeof Status>> = {
  configured: 'created',
  initialized: 'created',
  stopped: 'exited',
  stopping: 'running',
}
const EngineStatus = z
  .string()
  .transform((word) => PODMAN_STATUS[word] ?? word)
  .pipe(Status)

const PortBindings = z.record(
  z.string().regex(/^\d{1,5}(\/[a-z]+)?$/, 'not a port'),
  z.array(z.looseObject({ HostIp: z.string(), HostPort: z.string().regex(/^\d{0,5}$/, 'not a port') })).nullable(),
)

export const ContainerDetails = z.looseObject({
  Id: FullId,
  Name: z.string(),
  Image: z.string(),
  Created: Instant,
  Config: z.looseObject({ Labels: z.record(z.string(), z.string()).nullish(), User: z.string().nullish() }),
  HostConfig: z
    .looseObject({ Memory: z.number().nullish(), NanoCpus: z.number().nullish(), PidsLimit: z.number().nullish() })
    .nullish(),
  State: z.looseObject({
    Status: EngineStatus,
    ExitCode: z.int(),
    OOMKilled: z.boolean(),
    Error: z.string().nullish(),
    StartedAt: Instant,
    FinishedAt: Instant,
    Health: z
      .looseObject({
        Status: z.string(),
        FailingStreak: z.int(),
        Log: z.array(z.looseObject({ Start: Instant, ExitCode: z.int(), Output: z.string() })).nullish(),
      })
      .nullish(),
  }),
  Mounts: z
    .array(
      z.looseObject({
        Type: z.string().nullish(),
        Name: z.string().nullish(),
        Source: z.string().nullish(),
        Destination: z.string(),
        RW: z.boolean().nullish(),
      }),
    )
    .nullish(),
  NetworkSettings: z.looseObject({
    Networks: z
      .record(z.string(), z.looseObject({ NetworkID: z.string(), IPAddress: z.string(), Gateway: z.string() }))
      .nullish(),
    SandboxKey: z.string().nullish(),
    Ports: PortBindings.nullish(),
  }),
})

export function stateOf(details: z.infer<typeof ContainerDetails>): ContainerState {
  const { State } = details
  const startedAt = instant(State.StartedAt)
  // While it runs, FinishedAt tells the end before this start.
  const finishedAt = State.Status === 'running' || State.Status === 'paused' ? undefined : instant(State.FinishedAt)
  return {
    id: details.Id,
    name: details.Name.replace(/^\//, ''),
    imageId: details.Image,
    labels: details.Config.Labels ?? {},
    status: State.Status,
    createdAt: new Date(details.Created),
    ...(startedAt ? { startedAt } : {}),
    ...(finishedAt ? { finishedAt } : {}),
    exitCode: State.ExitCode,
    oomKilled: State.OOMKilled,
    error: State.Error ?? '',
    networks: Object.entries(details.NetworkSettings.Networks ?? {}).map(([networkName, endpoint]) => ({
      networkId: endpoint.NetworkID,
      networkName,
      address: endpoint.IPAddress,
      gateway: endpoint.Gateway,
    })),
    ...(details.NetworkSettings.SandboxKey ? { networkNamespace: details.NetworkSettings.SandboxKey } : {}),
    ports: Object.entries(details.NetworkSettings.Ports ?? {}).flatMap(([key, bindings]) =>
      (bindings ?? []).map((binding) => ({
        containerPort: Number.parseInt(key, 10),
        hostIp: binding.HostIp,
        hostPort: Number(binding.HostPort),
      })),
    ),
    mounts: (details.Mounts ?? []).map(({ Type, Name, Source, Destination, RW }) => ({
      source: Source ?? '',
      target: Destination,
      ...(Type === 'volume' && Name ? { volume: Name } : {}),
      ...(RW === false ? { readOnly: true as const } : {}),
    })),
    user: details.Config.User ?? '',
    limits: {
      memoryBytes: details.HostConfig?.Memory ?? 0,
      cpus: (details.HostConfig?.NanoCpus ?? 0) / 1e9,
      // -1 stands for no bound too.
      pids: Math.max(0, details.HostConfig?.PidsLimit ?? 0),
    },
    ...healthOf(State.Health),
  }
}

/** The words of `State.Health.Status`; `none` and the empty one stand for no health check. */
const HealthStatus = z.enum(['starting', 'healthy', 'unhealthy'])

function healthOf(health: z.infer<typeof ContainerDetails>['State']['Health']): { health?: EngineHealth } {
  const status = HealthStatus.safeParse(health?.Status)
  if (!status.success) return {}
  return {
    health: {
      status: status.data,
      failingStreak: health?.FailingStreak ?? 0,
      checks: (health?.Log ?? []).map((check) => ({
        at: new Date(check.Start),
        exitCode: check.ExitCode,
        output: check.Output,
      })),
    },
  }
}

// Go's zero time stands for "never".
function instant(text: string): Date | undefined {
  return text.startsWith('0001-') ? undefined : new Date(text)
}

/** What a Date can hold. */
const LATEST_SECOND = 8.64e12

export const ContainerListItem = z.looseObject({
  Id: FullId,
  Names: z.array(z.string()),
  ImageID: z.string(),
  Labels: z.record(z.string(), z.string()).nullish(),
  State: EngineStatus,
  Created: z.int().max(LATEST_SECOND),
})

export function summaryOf(item: z.infer<typeof ContainerListItem>): ContainerSummary {
  return {
    id: item.Id,
    name: (item.Names[0] ?? '').replace(/^\//, ''),
    imageId: item.ImageID,
    labels: item.Labels ?? {},
    status: item.State,
    createdAt: new Date(item.Created * 1000),
  }
}
