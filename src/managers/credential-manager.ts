import { createHash } from 'node:crypto'
import { lstat, open, readdir, readFile, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { Readable } from 'node:stream'
import { parseEnv } from 'node:util'
import { pack } from 'tar-stream'
import type { Containers } from '../engine/engine.ts'
import type { MountSpec } from '../engine/spec.ts'
import { AppError } from '../errors.ts'
import { type CredentialFile, type CredentialSet, type SecretSource, targetIn } from '../policy/credentials.ts'
import { requireMountTarget } from '../policy/volumes.ts'
import type { PlacedFile, PrivateFile } from './private-files.ts'
import { GIT_TOKEN_FILE, GIT_USERNAME_FILE, programPath } from './toolbox-programs.ts'
import type { VolumeResolver } from './volume-resolver.ts'

/** A file that is copied on each start comes through memory. */
const MAX_PLACED_BYTES = 4 * 1024 * 1024
const MAX_COPIED_FILES = 10_000
const MAX_COPIED_BYTES = 256 * 1024 * 1024

/** For whom credentials are made ready. */
export interface CredentialOwner {
  worker: string
  session: string | undefined
  home: string
  uid: number
  gid: number
}

/** Secrets of a worker, read anew at each of its starts. */
export interface Secrets {
  variables: Record<string, string>
  files: PrivateFile[]
  placed: PlacedFile[]
}

/** A folder that a worker has a copy of, in a volume of its own. */
export interface CopiedFolder {
  source: string
  target: string
  only: readonly string[] | undefined
  /** Engine name of the volume. */
  volume: string
}

export interface CredentialMounts {
  mounts: MountSpec[]
  /** Volumes that were made now, and are to be filled once a container has them. */
  fresh: CopiedFolder[]
}

/** Gives workers the credential sets that they ask for. */
export class CredentialManager {
  readonly #containers: Containers
  readonly #volumes: VolumeResolver

  constructor(options: { containers: Containers; volumes: VolumeResolver }) {
    this.#containers = options.containers
    this.#volumes = options.volumes
  }

  /** Values and single files; `credentials_unavailable` where the operator's source has none. */
  async secrets(sets: readonly CredentialSet[], home: string): Promise<Secrets> {
    const secrets: Secrets = { variables: {}, files: [], placed: [] }
    for (const set of sets) {
      for (const [name, source] of Object.entries(set.environment)) {
        secrets.variables[name] = await secretValue(set, source)
      }
      if (set.git !== undefined) {
        const token = await secretValue(set, set.git.token)
        secrets.files.push({ name: GIT_TOKEN_FILE, content: `${token}\n`, mode: 0o600 })
        secrets.files.push({ name: GIT_USERNAME_FILE, content: `${set.git.username}\n`, mode: 0o600 })
        secrets.variables['GIT_ASKPASS'] = programPath('git-askpass')
        secrets.variables['GIT_TERMINAL_PROMPT'] = '0'
      }
      for (const file of set.files.filter(({ mode }) => mode === 'copy')) {
        const details = await this.#look(set, file)
        if (details === undefined || details.isDirectory()) continue
        if (details.size > MAX_PLACED_BYTES) throw unavailable(set, `${file.source} is larger than 4 MiB`)
        secrets.placed.push({ content: await readFile(file.source), target: targetIn(home, file.target) })
      }
    }
    return secrets
  }

  /** Read-only mounts of the operator's files, and volumes of the worker's own for folders that it may write to. */
  async mounts(sets: readonly CredentialSet[], owner: CredentialOwner): Promise<CredentialMounts> {
    const result: CredentialMounts = { mounts: [], fresh: [] }
    for (const set of sets) {
      for (const file of set.files) {
        const details = await this.#look(set, file)
        if (details === undefined) continue
        const target = targetIn(owner.home, file.target)
        requireMountTarget(target)
        if (file.mode === 'mount') {
          const source = this.#volumes.toEngine(file.source)
          result.mounts.push({ type: 'bind', source, target, readOnly: true })
        } else if (details.isDirectory()) {
          const open = owner.uid !== 0
          const { name, fresh } = await this.#volumes.workerVolume(`credential.${set.name}.${digest(file.target)}`, {
            ...owner,
            open,
          })
          result.mounts.push({ type: 'volume', source: name, target, readOnly: false, keepAsIs: true })
          if (fresh) result.fresh.push({ source: file.source, target, only: file.only, volume: name })
        }
      }
    }
    return result
  }

  /** Copies folders into the volumes of a container, as files of the worker's user. */
  async fill(containerId: string, folders: readonly CopiedFolder[], owner: CredentialOwner): Promise<void> {
    for (const folder of folders) {
      await this.#containers.writeArchive(containerId, folder.target, packFolder(folder, owner))
    }
  }

  async #look(set: CredentialSet, file: CredentialFile) {
    const details = await stat(file.source).catch(() => undefined)
    if (details !== undefined || file.optional) return details
    throw unavailable(set, `${basename(file.source)} is missing where the operator's configuration says it is`)
  }
}

async function secretValue(set: CredentialSet, source: SecretSource): Promise<string> {
  if (source.value !== undefined) return source.value
  if (source.envFile !== undefined) {
    const text = await readFile(source.envFile.path, 'utf8').catch(() => '')
    const value = parseEnv(text)[source.envFile.key]
    if (value !== undefined && value !== '') return value
  }
  throw unavailable(set, `neither the variable ${source.name} nor an .env file has a value`)
}

function unavailable(set: CredentialSet, why: string): AppError {
  return new AppError('credentials_unavailable', `Credential set "${set.name}": ${why}`, {
    hint: 'The operator of this service has to provide it.',
  })
}

/** Names a copy by where it is: the order of the operator's list may change. */
function digest(target: string): string {
  return createHash('sha256').update(target).digest('hex').slice(0, 8)
}

/** A folder as a tar: regular files and folders, owned by the worker's user. */
function packFolder({ source, only }: CopiedFolder, { uid, gid }: CredentialOwner): Readable {
  const tar = pack()
  let files = 0
  let bytes = 0
  const add = async (name: string): Promise<void> => {
    const path = join(source, name)
    const details = await lstat(path).catch(() => undefined)
    if (details?.isDirectory()) {
      if (name !== '') tar.entry({ name: `${name}/`, type: 'directory', mode: details.mode & 0o777, uid, gid })
      for (const child of (await readdir(path)).toSorted()) await add(name === '' ? child : `${name}/${child}`)
    } else if (details?.isFile()) {
      files += 1
      bytes += details.size
      if (files > MAX_COPIED_FILES || bytes > MAX_COPIED_BYTES) {
        throw new AppError('credentials_unavailable', `${basename(source)} has more files than can be copied`)
      }
      await addFile(tar, path, { name, mode: details.mode & 0o777, uid, gid, size: details.size })
    }
  }
  const all = only === undefined ? add('') : Promise.all(only.map(add))
  all.then(
    () => tar.finalize(),
    (error: Error) => tar.destroy(error),
  )
  return Readable.from(tar)
}

async function addFile(
  tar: ReturnType<typeof pack>,
  path: string,
  header: { name: string; mode: number; uid: number; gid: number; size: number },
): Promise<void> {
  const file = await open(path, 'r')
  try {
    const content = await file.readFile()
    // It may have changed since its size was read.
    tar.entry({ ...header, size: content.length }, content)
  } finally {
    await file.close()
  }
}
