import { AppError } from '../errors.ts'

/** True where a reference matches one of the patterns; `*` stands for any characters. */
export function isAllowedImage(reference: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => toExpression(pattern).test(reference))
}

export function requireAllowedImage(reference: string, patterns: readonly string[]): void {
  if (isAllowedImage(reference, patterns)) return
  throw new AppError('policy_denied', `Image "${reference}" is not among those that the operator allows`, {
    rule: 'image',
    hint: 'CO_ALLOWED_IMAGES lists the allowed references.',
  })
}

function toExpression(pattern: string): RegExp {
  const literal = pattern.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`^${literal.join('.*')}$`)
}
