/** How much a request may ask for, by the profile that its caller has. */
import { AppError, type PolicyRule } from '../errors.ts'
import type { Maxima, Profile } from './profiles.ts'

/** What a request asks for; where absent, it asks for none of it. */
export type Asked = Maxima

const BOUNDS: readonly { name: keyof Maxima; rule: PolicyRule; unit: string }[] = [
  { name: 'memoryMegabytes', rule: 'memory', unit: 'MB of memory' },
  { name: 'cpus', rule: 'cpus', unit: 'cores' },
  { name: 'timeoutSeconds', rule: 'timeout', unit: 'seconds' },
  { name: 'pids', rule: 'pids', unit: 'processes' },
]

/** Refuses (`policy_denied`) more than the profile, narrowed to its caller, has at most. */
export function requireWithin({ name: profile, max }: Profile, asked: Asked): void {
  for (const { name, rule, unit } of BOUNDS) {
    const most = max[name]
    const given = asked[name]
    if (most === undefined || given === undefined || given <= most) continue
    throw new AppError('policy_denied', `Profile "${profile}" allows this caller at most ${most} ${unit}`, {
      rule,
      hint: `Ask for at most ${most}: this request has ${given}.`,
    })
  }
}
