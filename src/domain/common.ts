/** Pieces that many schemas share. Wire names are the domain's names. */
import { z } from 'zod'

/** Schemas with an id of their own in the OpenAPI document. */
export const schemas = z.registry<{ id: string; description?: string }>()

/** Registers a schema under its OpenAPI id. */
export function named<T extends z.ZodType>(id: string, schema: T): T {
  schemas.add(schema, { id })
  return schema
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/

export const Name = z
  .string()
  .regex(NAME, 'use 1 to 63 letters, digits, "_", "." or "-", beginning with a letter or digit')

export const SessionId = Name.describe('Session that the container belongs to')

/** RFC 3339 in UTC, with milliseconds. */
export const Timestamp = z.iso.datetime({ precision: 3 })

export function timestamp(date: Date = new Date()): string {
  return date.toISOString()
}

/** A whole number in a query string: strict, since a query has only strings. */
export function queryInteger({ min, max }: { min: number; max: number }) {
  return z
    .string()
    .regex(/^\d{1,15}$/, 'use a whole number')
    .transform(Number)
    .pipe(z.number().int().min(min).max(max))
    .meta({ type: 'integer', minimum: min, maximum: max })
}

/** A yes or no in a query string. */
export const queryBoolean = z
  .enum(['true', 'false'])
  .transform((word) => word === 'true')
  .meta({ type: 'boolean' })

/** An id as `newId` makes them: its prefix and a UUID. */
export function recordId(prefix: string) {
  const pattern = new RegExp(`^${prefix}_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
  return z.string().regex(pattern, 'use the next_cursor of a page of this list')
}

/** Of a list whose cursors are ids of its items: any other would quietly give a page of the wrong ones, or none. */
export function pageQuery(id: z.ZodType<string, string>) {
  return {
    limit: queryInteger({ min: 1, max: 1000 }).optional().describe('Items on a page (default 100)'),
    cursor: id.optional().describe('next_cursor of the page before'),
  }
}

export function page<T extends z.ZodType>(id: string, item: T) {
  return named(id, z.object({ items: z.array(item), next_cursor: z.string().nullable() }))
}

export interface Page<T> {
  items: T[]
  next_cursor: string | null
}

const ENVIRONMENT_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/
const ENVIRONMENT_BYTES = 64 * 1024

/** What is wrong with a key of a record, in the words of the key's own schema. */
export function keyError(issue: { code: string; issues?: unknown }): string | undefined {
  const [first] = (issue.code === 'invalid_key' ? issue.issues : []) as { message?: string }[]
  return first?.message
}

/** Values are passed byte for byte; a NUL could not be. */
export const Environment = z
  .record(
    z.string().regex(ENVIRONMENT_NAME, 'use letters, digits and "_"'),
    z.string().regex(/^[^\0]*$/, 'NUL is not allowed'),
    { error: keyError },
  )
  .refine(
    (map) =>
      Object.entries(map).reduce((bytes, [name, value]) => bytes + Buffer.byteLength(name + value) + 2, 0) <=
      ENVIRONMENT_BYTES,
    'names and values together may take 64 KiB',
  )

const ARGUMENT = z
  .string()
  .max(131_071)
  .regex(/^[^\0]*$/, 'NUL is not allowed')
export const Arguments = z.array(ARGUMENT).max(1024)
export const Argv = Arguments.min(1, 'give at least the program')

export const CustomLabels = z
  .record(z.string().min(1).max(128), z.string().max(1024))
  .refine((map) => Object.keys(map).length <= 64, 'at most 64 labels')

const PATH_COMPONENT = '[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*'
const DOMAIN_LABEL = '[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?'
/** A first part is a registry where it has a dot or a port, or is localhost. */
const REGISTRY = `(?:(?:${DOMAIN_LABEL}(?:\\.${DOMAIN_LABEL})+(?::\\d+)?|${DOMAIN_LABEL}:\\d+|localhost)/)`
const REFERENCE = new RegExp(
  `^${REGISTRY}?${PATH_COMPONENT}(?:/${PATH_COMPONENT})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$|^sha256:[0-9a-f]{64}$`,
)

/** An image reference as engines take it: `name`, `registry:port/name:tag`, `name@sha256:…`, or an id. */
export const ImageReference = z
  .string()
  .max(512)
  .regex(REFERENCE, 'use an image reference such as "name:tag" or "registry/name@sha256:…", with lower-case names')

/** A clean absolute path inside a container. */
export const ContainerPath = z
  .string()
  .max(1024)
  .regex(/^\/[^\0]*$/, 'use an absolute path')
  .refine((path) => !path.split('/').some((part) => part === '..' || part === '.'), '"." and ".." are not allowed')

const RelativePath = z
  .string()
  .min(1)
  .max(1024)
  .regex(/^[^\0]*$/, 'NUL is not allowed')
  .refine((path) => !path.split('/').some((part) => part === '..' || part === '.'), '"." and ".." are not allowed')
  .refine((path) => !path.endsWith('/'), 'name a file')

const DOCKERFILE_CHARACTERS = 256 * 1024
const Dockerfile = z.string().min(1).max(DOCKERFILE_CHARACTERS)

const BuildContext = named(
  'BuildContext',
  z.strictObject({
    dockerfile: Dockerfile,
    files: z
      .record(
        RelativePath.refine((path) => !path.startsWith('/'), 'use a relative path'),
        z.string(),
      )
      .default({})
      .describe('Text files of the build context, by path'),
  }),
)

const FileContent = z.union([z.string(), z.strictObject({ base64: z.base64() })])

export const InputFiles = z
  .record(RelativePath, FileContent)
  .describe('Files that the container starts with, by path; a relative path is beneath /input')

export const VolumeMount = named(
  'VolumeMount',
  z.strictObject({
    source: z.string().min(1).max(1024).describe('A named volume of the session, or a host path under an allowed root'),
    target: ContainerPath,
    read_only: z.boolean().default(true),
  }),
)
export type VolumeMount = z.infer<typeof VolumeMount>

export const Gpu = named(
  'Gpu',
  z.strictObject({
    count: z.union([z.number().int().min(1).max(64), z.literal('all')]).default('all'),
    device_ids: z.array(z.string().min(1).max(128)).max(64).default([]),
    capabilities: z.array(z.string().min(1).max(64)).min(1).max(16).default(['gpu']),
    driver: z.string().min(1).max(64).default('nvidia'),
  }),
)

const PORT_NUMBER = /^(?:[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])$/

export const PublishedPorts = z
  .record(z.string().regex(PORT_NUMBER, 'use a port number'), z.number().int().min(0).max(65_535))
  .default({})
  .describe('Container port to a host port on 127.0.0.1, 0 for any free one')

export const ProfileName = Name.describe('Policy profile; the kind of container decides where absent')

/** What the image comes from: exactly one of the three. */
export const imageSource = {
  image: ImageReference.optional().describe('Pulled where the engine does not have it'),
  dockerfile: Dockerfile.optional().describe('Text of a Dockerfile to build from'),
  build: BuildContext.optional(),
}

export function hasOneImageSource(body: { image?: unknown; dockerfile?: unknown; build?: unknown }): boolean {
  return [body.image, body.dockerfile, body.build].filter((source) => source !== undefined).length === 1
}

export const ONE_IMAGE_SOURCE = { message: 'give exactly one of image, dockerfile and build', path: ['image'] }

export const Artifact = named('Artifact', z.object({ path: z.string(), bytes: z.number().int(), sha256: z.string() }))
export type Artifact = z.infer<typeof Artifact>

/** Why a container did not do what it was for. */
const FailureCode = z.enum([
  'nonzero_exit',
  'oom_killed',
  'timeout',
  'cancelled',
  'killed',
  'image_not_found',
  'pull_failed',
  'build_failed',
  'start_failed',
  'engine_unavailable',
  'engine_error',
  'lost',
  'health_check_timeout',
])

export const Failure = named(
  'Failure',
  z.object({ code: FailureCode, message: z.string(), hint: z.string().nullable() }),
)
export type Failure = z.infer<typeof Failure>
