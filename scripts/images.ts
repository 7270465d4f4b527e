/**
 * Makes the images that this checkout needs, on the engine: `images.ts start` the toolbox, `images.ts
 * egress` the proxy of profiles with `egress`, `images.ts bench` what the bench runs, `images.ts test`
 * all that the tests run. Each is a folder under images/ with a Dockerfile and, where files have to be
 * made first, a `prepare.sh` that puts them beside it. An image carries the recipe it was made by as a
 * label, so one that is in step with its folder is left alone.
 *
 * Exit status: 0 where all are there, 3 where no engine answers (nothing is said then), 1 otherwise.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { askEngine, buildImage, EngineAway, type LocalImage, listImages } from './engine-client.ts'

const RECIPE = 'container-orchestrator-recipe'
const CACHE = '.cache'

/** Certificate authorities that this machine trusts: a build behind a proxy needs them too. */
const MACHINE_CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'

type Purpose = 'start' | 'egress' | 'bench' | 'test'

interface Image {
  reference: string
  folder: string
  /** What it is built on, by reference: when that changes, so does this. */
  from?: readonly string[]
  /** What `prepare.sh` reads from this machine and the result depends on. */
  inputs?: () => readonly (string | Buffer)[]
  /** Arguments of its Dockerfile, by name. */
  buildArguments?: Readonly<Record<string, string>>
}

const TOOLBOX: Image = { reference: 'container-orchestrator/toolbox:1', folder: 'images/toolbox' }

/** The proxy of profiles with `egress`: made where an operator asks for it. */
const EGRESS: Image = { reference: 'container-orchestrator/egress:1', folder: 'images/egress' }

const DEBIAN: Image = { reference: 'container-orchestrator-test/debian:1', folder: 'images/test/debian' }

const NODE: Image = {
  reference: 'container-orchestrator-test/node:24',
  folder: 'images/test/node',
  from: [DEBIAN.reference, TOOLBOX.reference],
  inputs: () => [process.version, existsSync(MACHINE_CERTIFICATES) ? readFileSync(MACHINE_CERTIFICATES) : ''],
}

const HTTPD: Image = {
  reference: 'container-orchestrator-test/httpd:1',
  folder: 'images/test/httpd',
  from: [TOOLBOX.reference],
}

const WORKER_BASE: Image = {
  reference: 'container-orchestrator-test/worker-base:1',
  folder: 'images/test/worker-base',
  from: [NODE.reference],
}

const FOR_TESTS: readonly Image[] = [
  EGRESS,
  DEBIAN,
  HTTPD,
  { reference: 'container-orchestrator-test/nonroot:1', folder: 'images/test/nonroot', from: [TOOLBOX.reference] },
  { reference: 'container-orchestrator-test/postgres:1', folder: 'images/test/postgres', from: [DEBIAN.reference] },
  NODE,
  WORKER_BASE,
  {
    reference: 'container-orchestrator-test/worker:1',
    folder: 'images/worker',
    from: [WORKER_BASE.reference],
    buildArguments: { BASE_IMAGE: WORKER_BASE.reference },
  },
]

/** In the order in which they build on each other. */
function imagesFor(purpose: Purpose): readonly Image[] {
  return { start: [TOOLBOX], egress: [EGRESS], bench: [TOOLBOX, HTTPD], test: [TOOLBOX, ...FOR_TESTS] }[purpose]
}

/** The references that are absent, or made by another recipe than this checkout's. */
export async function missingImages(purpose: Purpose): Promise<readonly string[]> {
  const recipes = recipesOf(imagesFor(purpose))
  const present = await listImages(RECIPE)
  return [...recipes.keys()].filter((reference) => find(present, reference)?.labels[RECIPE] !== recipes.get(reference))
}

async function makeMissing(purpose: Purpose): Promise<void> {
  const missing = await missingImages(purpose)
  if (missing.length === 0) return
  const images = imagesFor(purpose)
  const recipes = recipesOf(images)
  const { Arch: engineArch } = await askEngine<{ Arch: string }>('GET', '/version')
  for (const image of images.filter(({ reference }) => missing.includes(reference))) {
    console.log(`setup: making the image ${image.reference}`)
    await make(image, recipes.get(image.reference) ?? '', engineArch)
  }
}

async function make(
  { reference, folder, buildArguments = {} }: Image,
  recipe: string,
  engineArch: string,
): Promise<void> {
  const replaced = find(await listImages(RECIPE), reference)
  mkdirSync(CACHE, { recursive: true })
  const context = mkdtempSync(join(CACHE, 'context-'))
  try {
    cpSync(folder, context, { recursive: true })
    const prepare = join(context, 'prepare.sh')
    if (existsSync(prepare)) await run('bash', [prepare, context], { ENGINE_ARCH: engineArch, CACHE_DIR: CACHE })
    setArguments(join(context, 'Dockerfile'), buildArguments)
    const tar = spawn('tar', ['-C', context, '-c', '.'], { stdio: ['ignore', 'pipe', 'inherit'] })
    await buildImage(tar.stdout, reference, { [RECIPE]: recipe })
  } finally {
    rmSync(context, { recursive: true, force: true })
  }
  if (replaced !== undefined) await discard(replaced)
}

/** Gives the arguments of a Dockerfile their values, as new defaults. */
function setArguments(dockerfile: string, values: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(values)) {
    const recipe = readFileSync(dockerfile, 'utf8')
    const line = new RegExp(`^ARG ${name}(=.*)?$`, 'm')
    if (!line.test(recipe)) throw new Error(`the Dockerfile takes no argument ${name}`)
    writeFileSync(
      dockerfile,
      recipe.replace(line, () => `ARG ${name}=${value}`),
    )
  }
}

/** Removes an image that has lost its name to a newer one, unless a container or an image still needs it. */
async function discard({ id, references }: LocalImage): Promise<void> {
  if (references.length > 1) return
  const [now] = (await listImages(RECIPE)).filter((image) => image.id === id)
  if (now === undefined || now.references.some((reference) => references.includes(reference))) return
  await askEngine('DELETE', `/images/${id}`).catch(() => undefined)
}

function find(images: readonly LocalImage[], reference: string): LocalImage | undefined {
  return images.find(({ references }) => references.includes(reference))
}

/** A digest of all that goes into each image, by reference. */
function recipesOf(images: readonly Image[]): Map<string, string> {
  const recipes = new Map<string, string>()
  for (const { reference, folder, from = [], inputs, buildArguments } of images) {
    const digest = createHash('sha256')
    for (const file of filesOf(folder)) digest.update(`${file}\0`).update(readFileSync(join(folder, file)))
    for (const base of from) digest.update(`${base}\0${recipes.get(base)}\0`)
    for (const input of inputs?.() ?? []) digest.update(input)
    if (buildArguments !== undefined) digest.update(JSON.stringify(buildArguments))
    recipes.set(reference, digest.digest('hex').slice(0, 16))
  }
  return recipes
}

function filesOf(folder: string): string[] {
  return (
    readdirSync(folder, { recursive: true, withFileTypes: true })
      // What is only read by people makes no other image.
      .filter((entry) => entry.isFile() && !entry.name.endsWith('.md') && entry.name !== 'compose.yaml')
      .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
      .sort()
  )
}

function run(command: string, args: readonly string[], environment: Record<string, string>): Promise<void> {
  const child = spawn(command, args, {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, ...environment },
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => {
      if (code === 0) resolve()
      else reject(new Error(`${args.join(' ')} ended with ${code}`))
    })
  })
}

if (import.meta.main) {
  const purpose = process.argv[2]
  if (purpose !== 'start' && purpose !== 'egress' && purpose !== 'bench' && purpose !== 'test')
    throw new Error('usage: images.ts start|egress|bench|test')
  try {
    await makeMissing(purpose)
  } catch (error) {
    if (error instanceof EngineAway) process.exit(3)
    console.error(`setup: ${error instanceof Error ? error.message : error}`)
    process.exitCode = 1
  }
}
