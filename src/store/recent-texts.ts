/** Of all texts together, in characters; a longer one is not kept at all. */
const ROOM = 1024 * 1024
const LONGEST = 64 * 1024

/** Texts that were asked for lately, in bounded memory. */
export class RecentTexts {
  /** The longest unasked first. */
  readonly #texts = new Map<string, string>()
  #taken = 0

  get(id: string): string | undefined {
    const text = this.#texts.get(id)
    if (text === undefined) return undefined
    this.#texts.delete(id)
    this.#texts.set(id, text)
    return text
  }

  set(id: string, text: string): void {
    this.delete(id)
    if (text.length > LONGEST) return
    this.#texts.set(id, text)
    this.#taken += text.length
    for (const oldest of this.#texts.keys()) {
      if (this.#taken <= ROOM) return
      this.delete(oldest)
    }
  }

  delete(id: string): void {
    this.#taken -= this.#texts.get(id)?.length ?? 0
    this.#texts.delete(id)
  }
}
