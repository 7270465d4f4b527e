import { StartRelic } from '../../../src/domain/relic.ts'
import { ExecuteTool } from '../../../src/domain/tool.ts'
import { StartWorker } from '../../../src/domain/worker-spec.ts'

/** A tool request as a route would hand it on, with these fields beside the least that it needs. */
export function toolRequest(fields: object = {}): ExecuteTool {
  return ExecuteTool.parse({ tool_name: 'sum', session_id: 's1', image: 'python:3.13', ...fields })
}

export function relicRequest(fields: object = {}): StartRelic {
  return StartRelic.parse({ relic_name: 'db', session_id: 's1', image: 'postgres:17', ...fields })
}

export function workerRequest(fields: object = {}): StartWorker {
  return StartWorker.parse({ worker_id: 'w1', image: 'python:3.13', ...fields })
}
