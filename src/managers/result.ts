import type { ToolRun } from '../domain/tool.ts'

export type ToolResult = Pick<ToolRun, 'result' | 'result_source'>

const NONE: ToolResult = { result: null, result_source: null }

/** The JSON that a tool gave: its result file, else all of stdout, else stdout's last line. */
export function resultOf(output: { file?: string | undefined; stdout: string; truncated: boolean }): ToolResult {
  if (output.file !== undefined) {
    const parsed = parse(output.file)
    if (parsed !== undefined) return { result: parsed.value, result_source: 'file' }
  }
  // Cut output is not all of stdout, whatever it looks like.
  if (!output.truncated) {
    const parsed = parse(output.stdout)
    if (parsed !== undefined) return { result: parsed.value, result_source: 'stdout' }
  }
  const lastLine = output.stdout.trimEnd().split('\n').at(-1) ?? ''
  if (!/^\s*[[{]/.test(lastLine)) return NONE
  const parsed = parse(lastLine)
  return parsed === undefined ? NONE : { result: parsed.value, result_source: 'stdout_last_line' }
}

function parse(text: string): { value: ToolResult['result'] } | undefined {
  if (text.trim() === '') return undefined
  try {
    return { value: JSON.parse(text) }
  } catch {
    return undefined
  }
}
