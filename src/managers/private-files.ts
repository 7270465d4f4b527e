/** What a worker is told on the stdin of its first process: files of a tmpfs, which no inspect shows. */
import { Readable } from 'node:stream'
import { pack } from 'tar-stream'
import { assignments, shellWord } from './shell-word.ts'
import { BUSYBOX, ENVIRONMENT_FILE, PRIVATE_FOLDER, SETUP_FILE } from './toolbox-programs.ts'

export interface PrivateFile {
  /** In the private folder. */
  name: string
  content: string | Buffer
  /** Secrets are for the worker's user alone. */
  mode: 0o600 | 0o644
}

/** A private file that is copied elsewhere before the worker's command begins. */
export interface PlacedFile {
  content: Buffer
  target: string
}

export interface PrivateContent {
  variables: Readonly<Record<string, string>>
  files: readonly PrivateFile[]
  placed: readonly PlacedFile[]
}

/** The tar that `worker-start` unpacks. */
export function packPrivate({ variables, files, placed }: PrivateContent): Readable {
  const tar = pack()
  const add = (name: string, mode: number, content: string | Buffer) => tar.entry({ name, mode }, content)
  add(ENVIRONMENT_FILE, 0o600, assignments(variables))
  const setup = placed.map(({ content, target }, index) => {
    const name = `placed-${index}`
    add(name, 0o600, content)
    return place(`${PRIVATE_FOLDER}/${name}`, target)
  })
  add(SETUP_FILE, 0o600, setup.join(''))
  for (const { name, content, mode } of files) add(name, mode, content)
  tar.finalize()
  return Readable.from(tar)
}

function place(from: string, target: string): string {
  const to = shellWord(target)
  return `${BUSYBOX} mkdir -p "$(${BUSYBOX} dirname ${to})" && ${BUSYBOX} mv ${from} ${to} || exit 125\n`
}
