/** When a worker is not healthy: pure. */
import type { HealthReason } from '../domain/worker.ts'
import type { StartWorker } from '../domain/worker-spec.ts'

export interface WorkerCondition {
  status: string
  ageHours: number | null
  diskPercent: number | null
  memoryPercent: number | null
  /** Failed health checks in a row; null where there are none. */
  failingStreak: number | null
}

/** Why a worker is not healthy, by its refresh policy; what is not known is no reason. */
export function healthReasons(condition: WorkerCondition, policy: StartWorker['refresh_policy']): HealthReason[] {
  const { status, ageHours, diskPercent, memoryPercent, failingStreak } = condition
  const reasons: HealthReason[] = []
  if (status !== 'running') reasons.push({ code: 'not_running', message: `It is ${status}` })
  if (ageHours !== null && ageHours > policy.max_age_hours) {
    reasons.push({ code: 'age', message: `Its container is ${ageHours} hours old, more than ${policy.max_age_hours}` })
  }
  if (diskPercent !== null && diskPercent > policy.disk_percent) {
    const message = `The workspace's file system is ${diskPercent} % full, more than ${policy.disk_percent} %`
    reasons.push({ code: 'disk', message })
  }
  if (memoryPercent !== null && memoryPercent > policy.memory_percent) {
    const message = `It uses ${memoryPercent} % of its memory, more than ${policy.memory_percent} %`
    reasons.push({ code: 'memory', message })
  }
  if (failingStreak !== null && failingStreak >= policy.health_failures) {
    reasons.push({ code: 'healthcheck', message: `Its health check failed ${failingStreak} times in a row` })
  }
  return reasons
}
