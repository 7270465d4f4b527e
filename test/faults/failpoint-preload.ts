/** Loaded before the service by `--import`: ends the process, as a crash does, at a named point's n-th passing. */
import { setFailpointHook } from '../../src/failpoints.ts'

const wanted = process.env['FAULTS_POINT']
let left = Number(process.env['FAULTS_POINT_PASSING'] ?? 1)

setFailpointHook((name) => {
  if (name !== wanted) return
  left -= 1
  if (left === 0) process.kill(process.pid, 'SIGKILL')
})
