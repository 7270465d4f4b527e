/** Credential sets: what an operator configured, and which of them a request may have. */
import { AppError } from '../errors.ts'

/** Where a secret comes from; the first that has it wins. */
export interface SecretSource {
  /** For messages: never the value. */
  name: string
  /** The variable's value when the service started. */
  value: string | undefined
  /** An `.env` file that is read when a worker starts. */
  envFile: { path: string; key: string } | undefined
}

export interface CredentialFile {
  /** File or folder, as this service sees it. */
  source: string
  /** In the container; `~/` stands for the worker's home. */
  target: string
  /** Mounted read-only, or copied for each worker, which may write to it. */
  mode: 'mount' | 'copy'
  /** Of a copied folder, only these. */
  only: readonly string[] | undefined
  /** A missing source is passed over. */
  optional: boolean
}

export interface CredentialSet {
  name: string
  environment: Readonly<Record<string, SecretSource>>
  files: readonly CredentialFile[]
  /** For git over HTTPS, through an askpass helper. */
  git: { username: string; token: SecretSource } | undefined
}

export type CredentialSets = ReadonlyMap<string, CredentialSet>

/** The sets that a request names; one that is unknown, or not among the `allowed`, is denied. */
export function credentialsFor(
  sets: CredentialSets,
  names: readonly string[],
  allowed: readonly string[] = [...sets.keys()],
): CredentialSet[] {
  return [...new Set(names)].map((name) => {
    const set = allowed.includes(name) ? sets.get(name) : undefined
    if (set !== undefined) return set
    const known = [...sets.keys()].filter((candidate) => allowed.includes(candidate))
    throw new AppError('policy_denied', `There is no credential set "${name}" that this caller may use`, {
      rule: 'credentials',
      hint:
        known.length === 0
          ? 'The operator configures them under "credentials" in the file that CO_CONFIG names, and who may use them.'
          : `Use one of: ${known.join(', ')}.`,
    })
  })
}

/** A target with `~` replaced by the worker's home. */
export function targetIn(home: string, target: string): string {
  return target === '~' ? home : target.startsWith('~/') ? `${home}/${target.slice(2)}` : target
}
