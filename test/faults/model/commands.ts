import fc from 'fast-check'
import { race } from './race-commands.ts'
import {
  deleteRelic,
  harmRelic,
  readRelic,
  restartRelic,
  startRelic,
  stopRelic,
  useDeletedRelic,
} from './relic-commands.ts'
import {
  cleanUpOrphans,
  cleanUpSession,
  dryRunCleanup,
  plantOrphan,
  putSession,
  readService,
  readSession,
  restartService,
} from './session-commands.ts'
import type { Step } from './step.ts'
import { cancelEndedTool, cancelTool, executeTool, executeTwice, readTool } from './tool-commands.ts'
import {
  cancelExec,
  deleteWorker,
  ensureWorker,
  execInWorker,
  harmWorker,
  pauseWorker,
  readWorker,
  refreshWorker,
  restartWorker,
  resumeWorker,
  startWorker,
  stopWorker,
} from './worker-commands.ts'

const COMMANDS: readonly fc.Arbitrary<Step>[] = [
  // Twice as often: what makes things.
  executeTool,
  executeTool,
  startRelic,
  startRelic,
  startWorker,
  startWorker,
  executeTwice,
  cancelTool,
  cancelEndedTool,
  readTool,
  stopRelic,
  restartRelic,
  deleteRelic,
  readRelic,
  useDeletedRelic,
  harmRelic,
  ensureWorker,
  stopWorker,
  restartWorker,
  refreshWorker,
  pauseWorker,
  resumeWorker,
  deleteWorker,
  readWorker,
  execInWorker,
  execInWorker,
  cancelExec,
  harmWorker,
  putSession,
  readSession,
  readService,
  cleanUpSession,
  dryRunCleanup,
  cleanUpOrphans,
  plantOrphan,
  restartService,
  race,
  race,
  race,
]

export function sequences(options: { maxCommands: number; replayPath?: string }) {
  return fc.commands([...COMMANDS], { ...options, size: 'max' })
}
