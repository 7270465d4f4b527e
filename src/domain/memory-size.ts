import { z } from 'zod'

const NOTATION = /^(\d{1,15})(?:\.(\d{1,6}))?(b|[kmgt]b?)$/i
const FACTOR = { b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 } as const
const MIB = FACTOR.m
/** Less than this no engine starts. */
const SMALLEST = 8 * MIB
const LARGEST = FACTOR.t

/**
 * Bytes of a size in Docker's notation: a number and a unit of b, k, m, g or t (powers of 1024), as
 * in "512m", "4g", "1.5gb". Undefined for all else; a number without a unit is not guessed at.
 */
export function parseMemorySize(text: string): number | undefined {
  const match = NOTATION.exec(text)
  if (match === null) return undefined
  const [, whole = '', fraction = '', unit = ''] = match
  const factor = FACTOR[unit.charAt(0).toLowerCase() as keyof typeof FACTOR]
  const bytes = Number(`${whole}.${fraction || '0'}`) * factor
  return Number.isSafeInteger(bytes) ? bytes : Math.floor(bytes)
}

/** A memory limit as callers write it. */
export const MemorySize = z
  .string()
  .max(32)
  .refine((text) => parseMemorySize(text) !== undefined, 'use a number with a unit, such as "512m" or "4g"')
  .refine((text) => {
    const bytes = parseMemorySize(text)
    return bytes === undefined || (bytes >= SMALLEST && bytes <= LARGEST)
  }, 'use a size from 8m to 1t')
  .describe('In Docker\'s notation: "512m", "4g"')
