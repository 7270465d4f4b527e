import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyContextConfig } from 'fastify'
import fp from 'fastify-plugin'
import { createJsonSchemaTransform, createJsonSchemaTransformObject } from 'fastify-type-provider-zod'
import type { OpenAPIV3_1 } from 'openapi-types'
import { schemas } from '../domain/common.ts'
import { problems } from '../domain/problem.ts'
import { VERSION } from '../version.ts'

/** The folder of Swagger UI's pages: in the build its code is elsewhere. */
const PAGES = fileURLToPath(new URL('.', import.meta.resolve('@fastify/swagger-ui/static/index.html')))

const describe = createJsonSchemaTransform({ schemaRegistry: schemas })

/** What any call may be answered that cannot be read, beside what its route declares. */
const MALFORMED = problems(400, 413)
/** And what any that is not public. */
const REFUSALS = { ...MALFORMED, ...problems(401, 403, 404, 429) }

const transform: typeof describe = (given) => {
  const { access } = (given.route.config ?? {}) as FastifyContextConfig
  const { schema } = given
  if (access === undefined || schema.hide) return describe(given)
  if (access === 'public') {
    const response = { ...MALFORMED, ...(schema.response as object) }
    return describe({ ...given, schema: { ...schema, response, security: [] } })
  }
  const response = { ...REFUSALS, ...(schema.response as object) }
  return describe({ ...given, schema: { ...schema, response, security: [{ key: [] }] } })
}
const transformObject = createJsonSchemaTransformObject({ schemaRegistry: schemas })

/** The OpenAPI document, made from the routes' own schemas, and a page to read it on. */
export const openapi = fp(async (app) => {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'container-orchestrator',
        version: VERSION,
        description: 'Safe containers for AI agents: tools, relics and workers on any machine with Docker.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      servers: [{ url: '/', description: 'This service' }],
      components: {
        securitySchemes: {
          key: {
            type: 'http',
            scheme: 'bearer',
            description: 'A key or session token; needed where the operator gave out keys',
          },
        },
      },
      tags: [
        { name: 'Tools', description: 'One container per call, gone when it ends' },
        { name: 'Relics', description: 'Services that live as long as their session' },
        {
          name: 'Workers',
          description: 'Long-running containers with a workspace, and the commands and files in them',
        },
        { name: 'Sessions', description: 'What containers share: a network, a lifetime' },
        { name: 'Stats', description: 'What containers use' },
        { name: 'Cleanup', description: 'Leaving nothing behind' },
        { name: 'Service', description: 'The service itself' },
      ],
    },
    transform,
    transformObject: (document) => tidy(transformObject(document) as OpenAPIV3_1.Document),
  })
  await app.register(async (docs) => {
    // The page and its parts tell nothing of what the service has.
    docs.addHook('onRoute', (route) => {
      route.config = { ...route.config, access: 'public' }
    })
    const logo = { type: 'image/svg+xml', content: await readFile(`${PAGES}logo.svg`) }
    await docs.register(swaggerUi, { routePrefix: '/docs', staticCSP: true, baseDir: PAGES, logo })
  })

  app.get('/openapi.json', { config: { access: 'public' }, schema: { hide: true } }, async () => app.swagger())
  app.get('/openapi.yaml', { config: { access: 'public' }, schema: { hide: true } }, async (_request, reply) =>
    reply.type('application/yaml; charset=utf-8').send(app.swagger({ yaml: true })),
  )
})

/**
 * Each registered schema comes twice, as it is sent and as it is received (`…Input`). What no path
 * refers to goes, and a schema that is only ever received loses the suffix.
 */
function tidy(document: OpenAPIV3_1.Document): OpenAPIV3_1.Document {
  const all = document.components?.schemas ?? {}
  const used = new Set<string>()
  const visit = (value: unknown): void => {
    for (const [, name] of JSON.stringify(value).matchAll(/"#\/components\/schemas\/([^"]+)"/g)) {
      if (name === undefined || used.has(name)) continue
      used.add(name)
      visit(all[name] ?? {})
    }
  }
  visit(document.paths ?? {})
  const rename = new Map([...used].map((name) => [name, renamed(name, used)]))
  const kept = Object.fromEntries(
    Object.entries(all)
      .filter(([name]) => used.has(name))
      .map(([name, schema]) => [rename.get(name) ?? name, schema] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  )
  const tidied = JSON.stringify({ ...document, components: { ...document.components, schemas: kept } }).replace(
    /"#\/components\/schemas\/([^"]+)"/g,
    (_whole, name: string) => `"#/components/schemas/${rename.get(name) ?? name}"`,
  )
  return JSON.parse(namedWildcards(tidied))
}

/** The router's `*` is a parameter without a name; the document calls it `path`. */
function namedWildcards(json: string): string {
  return json.replaceAll('/{*}"', '/{path}"').replaceAll('"name":"*"', '"name":"path"')
}

function renamed(name: string, used: ReadonlySet<string>): string {
  const bare = name.replace(/Input$/, '')
  return bare !== name && !used.has(bare) ? bare : name
}
