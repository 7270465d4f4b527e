/** What the simulated `tool-start` reads: the hand-off to a parked container (see managers/hand-off.ts). */

export interface ToldTool {
  environment: Record<string, string>
  argv: string[]
  stdin: Buffer
}

const WORD = `'(?:[^']|'\\\\'')*'`

/** Undefined where it is not whole. */
export function readHandOff(input: Buffer): ToldTool | undefined {
  const line = input.indexOf('\n')
  const header = /^(\d+) ([0-9a-f]+)$/.exec(input.subarray(0, Math.max(0, line)).toString())
  const end = line + 1 + Number(header?.[1])
  if (header === null || end > input.length) return undefined
  const text = input.subarray(line + 1, end).toString()
  if (!text.endsWith(`: ${header[2]}`)) return undefined
  const environment: Record<string, string> = {}
  for (const [, name = '', word = ''] of text.matchAll(new RegExp(`^export (\\w+)=(${WORD})$`, 'gm'))) {
    environment[name] = unquoted(word)
  }
  const words = new RegExp(`^set -- ((?:${WORD} ?)*)$`, 'm').exec(text)?.[1] ?? ''
  const argv = [...words.matchAll(new RegExp(WORD, 'g'))].map(([word]) => unquoted(word))
  return { environment, argv, stdin: input.subarray(end) }
}

function unquoted(word: string): string {
  return word.slice(1, -1).replaceAll(`'\\''`, "'")
}
