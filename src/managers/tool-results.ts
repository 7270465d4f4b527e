import type { ExecuteTool } from '../domain/tool.ts'
import type { ContainerState } from '../engine/engine.ts'
import { messageOf } from '../errors.ts'
import type { ArtifactCollector } from './artifact-collector.ts'
import type { Log } from './log.ts'
import type { OutputLook } from './output-folder.ts'
import { resultOf } from './result.ts'
import type { RunOutput } from './run-output.ts'
import type { ToolRecord } from './tool-record.ts'

export interface ToolResultsDeps {
  collector: ArtifactCollector
  log: Log
}

/**
 * Notes what a run has left: artifacts and result. What cannot be collected is logged: the run's own
 * outcome stands. `before` is what /output looked like when it began.
 */
export async function collectResults(
  { collector, log }: ToolResultsDeps,
  { output, record, request }: { output: RunOutput; record: ToolRecord; request: ExecuteTool },
  container: Pick<ContainerState, 'id' | 'mounts'>,
  before: OutputLook,
): Promise<void> {
  const { id, view } = record.entry
  const began = performance.now()
  let resultFile: string | undefined
  try {
    const collected = await collector.collect(id, container, request.output_paths, before)
    view.artifacts = collected.artifacts
    resultFile = collected.resultFile
    for (const warning of collected.warnings) {
      log.warn({ event: 'tool.artifact_skipped', execution_id: id, warning }, 'an artifact was left out')
    }
  } catch (error) {
    log.warn(
      { event: 'tool.collect_failed', execution_id: id, error: messageOf(error) },
      'artifacts could not be collected',
    )
  }
  const { stdout, stdout_truncated: truncated } = output.view
  Object.assign(view, resultOf({ file: resultFile, stdout, truncated }))
  record.timed('collect_ms', began)
}
