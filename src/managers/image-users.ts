import { randomUUID } from 'node:crypto'
import type { Engine, ImageInfo } from '../engine/engine.ts'
import { AppError, isEngineFault } from '../errors.ts'
import { planUnstarted } from '../policy/container-policy.ts'
import type { DockerManager } from './docker-manager.ts'
import { InFlight } from './in-flight.ts'
import { firstText } from './tar-file.ts'

/** Whom a process runs as, in numbers. */
export interface NumericUser {
  uid: number
  gid: number
  /** As the image says; undefined where it does not know the user or gives it no home. */
  home: string | undefined
}

interface Accounts {
  users: ReadonlyMap<string, NumericUser>
  groups: ReadonlyMap<string, number>
}

const MAX_FILE_BYTES = 1024 * 1024
const KEPT_IMAGES = 256
const NUMBER = /^\d{1,10}$/

/** The users of images, by /etc/passwd and /etc/group: what a name in a request comes to in numbers. */
export class ImageUsers {
  readonly #engine: Engine
  readonly #docker: DockerManager
  readonly #known = new Map<string, Accounts>()
  readonly #reading = new InFlight<Accounts>()

  constructor(options: { engine: Engine; docker: DockerManager }) {
    this.#engine = options.engine
    this.#docker = options.docker
  }

  /** `user` or `user:group`, by name or number; a name that the image does not know is `validation_failed`. */
  async resolve(image: ImageInfo, user: string): Promise<NumericUser> {
    const accounts = await this.#accounts(image)
    const [name = '', group] = user.split(':')
    const known = accounts.users.get(name)
    const uid = known?.uid ?? (NUMBER.test(name) ? Number(name) : undefined)
    if (uid === undefined) throw unknown(`The image has no user "${name}"`)
    const byNumber = known ?? [...accounts.users.values()].find((account) => account.uid === uid)
    const gid = group === undefined ? (byNumber?.gid ?? uid) : groupNumber(accounts, group)
    return { uid, gid, home: byNumber?.home }
  }

  async #accounts(image: ImageInfo): Promise<Accounts> {
    const known = this.#known.get(image.id)
    if (known !== undefined) return known
    return this.#reading.share(image.id, async () => {
      const accounts = await this.#read(image)
      const oldest = this.#known.keys().next().value
      if (this.#known.size >= KEPT_IMAGES && oldest !== undefined) this.#known.delete(oldest)
      this.#known.set(image.id, accounts)
      return accounts
    })
  }

  /** A container that is never started shows the image's files. */
  async #read(image: ImageInfo): Promise<Accounts> {
    const nonce = randomUUID()
    const containerId = await this.#docker.create({
      owner: { kind: 'toolbox', id: image.id, nonce },
      containerName: `users_${nonce}`,
      imageId: image.id,
      plan: planUnstarted(),
      network: { mode: 'none' },
    })
    try {
      const [passwd, group] = await Promise.all([
        this.#file(containerId, '/etc/passwd'),
        this.#file(containerId, '/etc/group'),
      ])
      return { users: parsePasswd(passwd), groups: parseGroup(group) }
    } finally {
      this.#docker.removeLater(containerId)
    }
  }

  async #file(containerId: string, path: string): Promise<string> {
    try {
      const tar = await this.#engine.containers.readArchive(containerId, path, AbortSignal.timeout(10_000))
      return await firstText(tar, MAX_FILE_BYTES)
    } catch (error) {
      if (isEngineFault(error, 'not_found')) return ''
      throw error
    }
  }
}

/** `name:password:uid:gid:gecos:home:shell` lines; later ones of a name do not count. */
export function parsePasswd(text: string): ReadonlyMap<string, NumericUser> {
  const users = new Map<string, NumericUser>()
  for (const line of text.split('\n')) {
    const [name = '', , uid = '', gid = '', , home = ''] = line.split(':')
    if (name === '' || users.has(name) || !NUMBER.test(uid) || !NUMBER.test(gid)) continue
    const usable = home.startsWith('/') && home !== '/' && home !== '/nonexistent'
    users.set(name, { uid: Number(uid), gid: Number(gid), home: usable ? home : undefined })
  }
  return users
}

/** `name:password:gid:members` lines. */
export function parseGroup(text: string): ReadonlyMap<string, number> {
  const groups = new Map<string, number>()
  for (const line of text.split('\n')) {
    const [name = '', , gid = ''] = line.split(':')
    if (name !== '' && !groups.has(name) && NUMBER.test(gid)) groups.set(name, Number(gid))
  }
  return groups
}

function groupNumber({ groups }: Accounts, group: string): number {
  const gid = groups.get(group) ?? (NUMBER.test(group) ? Number(group) : undefined)
  if (gid === undefined) throw unknown(`The image has no group "${group}"`)
  return gid
}

function unknown(message: string): AppError {
  return new AppError('validation_failed', `user: ${message}`, {
    errors: [{ path: 'user', message }],
    hint: "Give numbers, as in 1000:1000, or a name of the image's /etc/passwd.",
  })
}
