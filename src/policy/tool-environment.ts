import type { ExecuteTool } from '../domain/tool.ts'
import { AppError } from '../errors.ts'

/** Names that the service sets itself; beside them, every name that begins with PARAM_. */
const RESERVED = new Set(['TOOL_PARAMETERS', 'TOOL_NAME', 'SESSION_ID', 'EXECUTION_ID'])
/** Linux passes a single variable of at most 128 KiB, name and terminator included. */
const VARIABLE_BYTES = 128 * 1024 - 1

/**
 * The variables of a tool: the caller's as given, each parameter as PARAM_<NAME> (a string as it is,
 * all else as JSON), all of them in TOOL_PARAMETERS, and who and where it is.
 *
 * Throws `validation_failed` for parameters that fold into one name, for reserved names and for a
 * value that Linux could not pass.
 */
export function toolEnvironment(request: ExecuteTool, executionId: string): Record<string, string> {
  const environment: Record<string, string> = {}
  for (const [name, value] of Object.entries(request.environment)) {
    if (RESERVED.has(name) || name.startsWith('PARAM_')) {
      throw invalid(['environment', name], `${name} is set by the service; use parameters instead`)
    }
    environment[name] = value
  }
  const folded = new Map<string, string>()
  for (const [name, value] of Object.entries(request.parameters)) {
    const variable = `PARAM_${name.toUpperCase().replace(/[^A-Z0-9_]/g, '_')}`
    const twin = folded.get(variable)
    if (twin !== undefined) throw invalid(['parameters', name], `"${twin}" and "${name}" both become ${variable}`)
    folded.set(variable, name)
    environment[variable] = typeof value === 'string' ? value : JSON.stringify(value)
    if (environment[variable].includes('\0')) throw invalid(['parameters', name], 'NUL is not allowed')
  }
  environment['TOOL_PARAMETERS'] = JSON.stringify(request.parameters)
  environment['TOOL_NAME'] = request.tool_name
  environment['SESSION_ID'] = request.session_id
  environment['EXECUTION_ID'] = executionId
  for (const [name, value] of Object.entries(environment)) {
    if (Buffer.byteLength(`${name}=${value}`) <= VARIABLE_BYTES) continue
    const parameter = folded.get(name)
    const path = parameter === undefined ? ['parameters'] : ['parameters', parameter]
    throw invalid(path, `${name} would take more than 128 KiB; use input_files or stdin for data`)
  }
  return environment
}

function invalid(path: string[], message: string): AppError {
  return new AppError('validation_failed', `${path.join('.')}: ${message}`, {
    errors: [{ path: path.join('.'), message }],
  })
}
