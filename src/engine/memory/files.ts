import { posix } from 'node:path'
import type { ContainerSpec } from '../spec.ts'

/** Files of one file system, by path within it; a folder is a path that files lie beneath, or an entry. */
export type FileTree = Map<string, { content: Buffer; modifiedAt: Date }>

interface Mount {
  target: string
  tree: FileTree
  readOnly: boolean
  lastsUntilExit: boolean
}

/** What a container sees: its root, and what is mounted over it. */
export class FileView {
  readonly #mounts: Mount[]

  /** `volumeOf` answers the tree of a volume; `hosts` is that of /etc/hosts alone. */
  constructor(
    spec: ContainerSpec,
    hosts: FileTree,
    volumeOf: (source: string | undefined, target: string) => FileTree,
  ) {
    const rootMount = { target: '/', tree: new Map(), readOnly: spec.sandbox.readonlyRoot, lastsUntilExit: false }
    const hostsMount = { target: '/etc/hosts', tree: hosts, readOnly: true, lastsUntilExit: false }
    const tmpfs = spec.sandbox.tmpfs.map(({ target }) => ({
      target,
      tree: new Map(),
      readOnly: false,
      lastsUntilExit: true,
    }))
    const mounts = spec.mounts.map((mount) => ({
      target: mount.target,
      tree: volumeOf(mount.source, mount.target),
      readOnly: mount.readOnly,
      lastsUntilExit: false,
    }))
    this.#mounts = [rootMount, hostsMount, ...tmpfs, ...mounts].toSorted((a, b) => b.target.length - a.target.length)
  }

  read(path: string): Buffer | undefined {
    const { mount, inside } = this.#locate(path)
    return mount.tree.get(inside)?.content
  }

  /** False where nothing can be written there. */
  write(path: string, content: Buffer): boolean {
    const { mount, inside } = this.#locate(path)
    if (mount.readOnly) return false
    mount.tree.set(inside, { content, modifiedAt: new Date() })
    return true
  }

  /** True where files can be put before a start: a tmpfs is not there yet. */
  takesArchives(path: string): boolean {
    const { mount } = this.#locate(path)
    return !mount.readOnly && !mount.lastsUntilExit
  }

  /** Undefined where there is neither a file nor a folder. */
  stat(path: string): { bytes: number; isDirectory: boolean; modifiedAt: Date } | undefined {
    const { mount, inside } = this.#locate(path)
    const file = mount.tree.get(inside)
    if (file !== undefined) return { bytes: file.content.length, isDirectory: false, modifiedAt: file.modifiedAt }
    const beneath = [...mount.tree].filter(([name]) => inside === '' || name.startsWith(`${inside}/`))
    if (inside !== '' && beneath.length === 0) return undefined
    const times = beneath.map(([, { modifiedAt }]) => modifiedAt.getTime())
    return { bytes: 0, isDirectory: true, modifiedAt: new Date(Math.max(0, ...times)) }
  }

  /** A file, or all files of a folder, by their paths from the folder that holds it. */
  *list(path: string): Generator<{ name: string; content: Buffer }> {
    const { mount, inside } = this.#locate(path)
    const base = posix.basename(path)
    for (const [name, { content }] of mount.tree) {
      if (name === inside) yield { name: base, content }
      else if (inside === '' || name.startsWith(`${inside}/`))
        yield { name: posix.join(base, name.slice(inside.length)), content }
    }
  }

  /** What a tmpfs held is gone when its container ends. */
  exit(): void {
    for (const mount of this.#mounts) if (mount.lastsUntilExit) mount.tree.clear()
  }

  #locate(path: string): { mount: Mount; inside: string } {
    const clean = posix.normalize(path).replace(/(.)\/$/, '$1')
    const mount = this.#mounts.find(
      ({ target }) => target === '/' || clean === target || clean.startsWith(`${target}/`),
    )
    if (mount === undefined) throw new Error(`no mount holds ${path}`)
    return { mount, inside: posix.relative(mount.target, clean) }
  }
}
