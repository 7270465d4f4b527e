/**
 * What a Dockerfile may ask of a build. The daemon itself fetches what ADD and a syntax line name,
 * from the host's network, so both are refused.
 */
import { AppError } from '../errors.ts'
import { requireAllowedImage } from './images.ts'

const REMOTE_SOURCE = /^(https?|ftp|git|ssh):|^git@|\.git(#|$)/i

/** Refuses (`policy_denied`) remote sources and base images that are not allowed. */
export function requireAllowedDockerfile(text: string, allowedImages: readonly string[]): void {
  if (/^\s*#\s*(syntax|escape)\s*=/im.test(text)) deny('"# syntax=" and "# escape=" lines are not allowed')
  const stages = new Set<string>()
  let stageCount = 0
  for (const { keyword, words } of instructions(text)) {
    if (keyword === 'FROM') {
      const [image, as, stage] = words.filter((word) => !word.startsWith('--'))
      requireBase(image ?? '', stages, allowedImages)
      if (as?.toUpperCase() === 'AS' && stage !== undefined) stages.add(stage.toLowerCase())
      stages.add(String(stageCount++))
    }
    if (keyword === 'ADD' && words.some((word) => REMOTE_SOURCE.test(word.replace(/^[["']+/, '')))) {
      deny('ADD of a remote source is not allowed; put the file into build.files and COPY it')
    }
    const from = keyword === 'COPY' ? words.find((word) => word.startsWith('--from=')) : undefined
    if (from !== undefined) requireBase(from.slice('--from='.length), stages, allowedImages)
    if (keyword === 'RUN' && words.some((word) => /^--(mount|network|security|device)=/.test(word))) {
      deny('RUN with --mount, --network, --security or --device is not allowed')
    }
    if (keyword === 'ONBUILD') deny('ONBUILD is not allowed')
  }
}

function requireBase(reference: string, stages: ReadonlySet<string>, allowedImages: readonly string[]): void {
  if (stages.has(reference.toLowerCase()) || reference === 'scratch') return
  // An argument could stand for any image, so it passes only where every image does.
  if (reference.includes('$') && !allowedImages.includes('*'))
    deny(`the base image "${reference}" depends on an argument`)
  if (!reference.includes('$')) requireAllowedImage(reference, allowedImages)
}

/** Instructions with continued lines joined and comments left out. */
function* instructions(text: string): Generator<{ keyword: string; words: string[] }> {
  const joined = text
    .split(/\r?\n/)
    .filter((line) => !/^\s*#/.test(line))
    .join('\n')
    .replace(/\\[ \t]*\n/g, ' ')
  for (const line of joined.split('\n')) {
    const [keyword, ...words] = line.trim().split(/\s+/)
    if (keyword) yield { keyword: keyword.toUpperCase(), words }
  }
}

function deny(rule: string): never {
  throw new AppError('policy_denied', `The Dockerfile is refused: ${rule}`)
}
