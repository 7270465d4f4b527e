/** Whom a worker runs as, and where its home is. */
import { posix } from 'node:path'
import type { StartWorker } from '../domain/worker-spec.ts'
import type { ImageInfo } from '../engine/engine.ts'
import { AppError } from '../errors.ts'
import type { Profile } from '../policy/profiles.ts'
import { isMountTarget, requireMountTarget } from '../policy/volumes.ts'
import type { ImageUsers, NumericUser } from './image-users.ts'

/** Where neither a request nor a host folder nor the image says whom. */
const DEFAULT_USER = '1000:1000'
const DEFAULT_HOME = '/home/worker'

interface Surroundings {
  image: ImageInfo
  /** Whose the workspace's folder on the host is. */
  hostOwner: { uid: number; gid: number } | undefined
}

/**
 * The profile's user, the request's, the owner of the workspace's folder (so that it can work there,
 * and what it makes there is the owner's), the image's where that is not root, or 1000. Root is had
 * only on a workspace that is root's, and without capabilities then.
 */
export async function workerUser(
  request: StartWorker,
  profile: Profile,
  { image, hostOwner }: Surroundings,
  imageUsers: ImageUsers,
): Promise<NumericUser> {
  if (profile.user !== undefined) return imageUsers.resolve(image, profile.user)
  if (request.user !== undefined) {
    const asked = await imageUsers.resolve(image, request.user)
    if (asked.uid !== 0 || hostOwner?.uid === 0) return asked
    throw new AppError('policy_denied', 'A worker does not run as root', {
      rule: 'user',
      hint: 'Leave "user" out, or name another. Only on a workspace that is root\'s does a worker run as root, without capabilities.',
    })
  }
  if (hostOwner !== undefined) return imageUsers.resolve(image, `${hostOwner.uid}:${hostOwner.gid}`)
  const own = image.user === '' ? undefined : await imageUsers.resolve(image, image.user)
  return own !== undefined && own.uid !== 0 ? own : imageUsers.resolve(image, DEFAULT_USER)
}

/**
 * The caller's HOME, the user's or image's own, or /home/worker. It gets a tmpfs, so it cannot be a
 * folder of the kernel's or the service's: a caller's is refused (`policy_denied`), an image's passed over.
 */
export function workerHome(request: StartWorker, image: ImageInfo, user: NumericUser): string {
  const given = request.environment['HOME']
  if (given?.startsWith('/')) {
    requireMountTarget(posix.normalize(given))
    return given
  }
  const ofImage = image.environment.find((entry) => entry.startsWith('HOME=/'))?.slice('HOME='.length)
  return [user.home, ofImage].find((home) => home !== undefined && isMountTarget(posix.normalize(home))) ?? DEFAULT_HOME
}
