import { describe, expect, it } from 'vitest'
import { RecentTexts } from '../../../src/store/recent-texts.ts'

describe('RecentTexts', () => {
  it('keeps what was asked for lately, in bounded memory', () => {
    const texts = new RecentTexts()
    const text = 'x'.repeat(1024)
    for (let number = 0; number < 1024; number++) texts.set(String(number), text)
    expect(texts.get('0')).toBe(text)
    texts.set('new', text)
    expect([texts.get('0'), texts.get('1'), texts.get('new')]).toEqual([text, undefined, text])
  })

  it('does not let one text take the place of all others', () => {
    const texts = new RecentTexts()
    texts.set('small', 'text')
    texts.set('large', 'x'.repeat(100_000))
    expect([texts.get('large'), texts.get('small')]).toEqual([undefined, 'text'])
    texts.set('small', 'x'.repeat(100_000))
    expect(texts.get('small')).toBeUndefined()
  })

  it('forgets what it is told to, and gives its room to others', () => {
    const texts = new RecentTexts()
    for (let round = 0; round < 100; round++) {
      for (let number = 0; number < 20; number++) texts.set(`${number}`, 'x'.repeat(50_000))
      for (let number = 0; number < 20; number++) texts.delete(`${number}`)
    }
    texts.delete('none')
    for (let number = 0; number < 20; number++) texts.set(`${number}`, 'x'.repeat(50_000))
    expect(texts.get('0')).toBeDefined()
  })
})
