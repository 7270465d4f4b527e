/** The word that takes the fewest edits to get to; undefined where there is none. */
export function nearest(word: string, words: readonly string[]): string | undefined {
  const byDistance = words.map((candidate) => ({ candidate, edits: edits(word, candidate) }))
  return byDistance.sort((a, b) => a.edits - b.edits)[0]?.candidate
}

/** Levenshtein's distance: characters added, removed and changed. */
function edits(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index)
  for (const [above, character] of [...from].entries()) {
    const next = [above + 1]
    for (const [index, other] of [...to].entries()) {
      const changed = (row[index] ?? 0) + (character === other ? 0 : 1)
      next.push(Math.min(changed, (row[index + 1] ?? 0) + 1, (next[index] ?? 0) + 1))
    }
    row = next
  }
  return row.at(-1) ?? 0
}
