/** The calls that lead to a container, a command or an image: where a caller's object comes in. */
import { ExecRequest } from '../../../src/domain/exec.ts'
import { StartRelic } from '../../../src/domain/relic.ts'
import { ExecuteTool } from '../../../src/domain/tool.ts'
import { EnsureWorker, StartWorker } from '../../../src/domain/worker-spec.ts'
import { TOOLBOX } from '../../fixtures/images.ts'
import { spellings, type Vector } from './vectors.ts'

type Body = Record<string, unknown>

export interface Surface {
  name: string
  path: string
  /** Is accepted as it stands. */
  body: Body
  /** Objects of fields in it, by their place; each is refused what it does not know. */
  nested: readonly (readonly string[])[]
  /** Fields at the top that are the API's own. */
  own: ReadonlySet<string>
}

const VOLUMES = [{ source: 'data', target: '/data' }]
const worker = {
  image: TOOLBOX,
  volumes: VOLUMES,
  workspace: { volume: 'work' },
  nofile: { soft: 64, hard: 64 },
  healthcheck: { command: ['true'] },
  ready: { command: ['true'] },
  restart_policy: { max_retries: 0 },
  refresh_policy: { health_failures: 1 },
  exit_codes: { '2': { meaning: 'two', action: 'fail' } },
  gpu: { count: 1 },
}
const WORKER_NESTED = [
  ['volumes', '0'],
  ['workspace'],
  ['nofile'],
  ['healthcheck'],
  ['ready'],
  ['restart_policy'],
  ['refresh_policy'],
  ['exit_codes', '2'],
  ['gpu'],
]
const tool = { tool_name: 'tool', session_id: 's', resource_limits: { memory_mb: 64 }, volumes: VOLUMES, gpu: {} }
const TOOL_NESTED = [['resource_limits'], ['volumes', '0'], ['gpu']]
const own = (schema: { shape: object }) => new Set(Object.keys(schema.shape))

/** `workerId` runs: a command in it, and a call to ensure it, are answered from what is there. */
export function surfaces(workerId: string): Surface[] {
  return [
    {
      name: 'tool execute',
      path: '/containers/tool/execute',
      body: { ...tool, image: TOOLBOX },
      nested: TOOL_NESTED,
      own: own(ExecuteTool),
    },
    {
      name: 'build',
      path: '/containers/tool/execute',
      body: { ...tool, build: { dockerfile: `FROM ${TOOLBOX}\n`, files: {} } },
      nested: [...TOOL_NESTED, ['build']],
      own: own(ExecuteTool),
    },
    {
      name: 'relic start',
      path: '/containers/relic/start',
      body: { ...tool, tool_name: undefined, relic_name: 'relic', image: TOOLBOX, restart_policy: { max_retries: 0 } },
      nested: [...TOOL_NESTED, ['restart_policy']],
      own: own(StartRelic),
    },
    {
      name: 'worker start',
      path: '/containers/worker/start',
      body: { ...worker, worker_id: 'never' },
      nested: WORKER_NESTED,
      own: own(StartWorker),
    },
    {
      name: 'worker ensure',
      path: `/containers/worker/${workerId}/ensure`,
      body: worker,
      nested: WORKER_NESTED,
      own: own(EnsureWorker),
    },
    {
      name: 'exec',
      path: `/containers/worker/${workerId}/exec`,
      body: { command: ['true'] },
      nested: [],
      own: own(ExecRequest),
    },
  ]
}

export interface Attack {
  /** How the vector was put into the body. */
  how: string
  /** JSON text. */
  body: string
}

const WRAPPERS = [
  '_body',
  '_query',
  'body',
  'query',
  'options',
  'Options',
  'createOptions',
  'opts',
  'HostConfig.Extra',
  'constructor',
]

/** Names that a nested object has itself. */
const NESTED_OWN = new Set(['driver'])

/** Each way to put a vector into a surface's body: by name, nesting, repetition and alias. */
export function attacks(surface: Surface, { field, value }: Vector): Attack[] {
  const made: Attack[] = []
  const add = (how: string, body: unknown) => made.push({ how, body: JSON.stringify(body) })
  for (const name of spellings(field)) {
    if (!surface.own.has(name)) add(`as ${name}`, { ...surface.body, [name]: value })
    for (const place of surface.nested) {
      if (NESTED_OWN.has(name)) continue
      add(`as ${name} in ${place.join('.')}`, within(surface.body, place, { [name]: value }))
    }
  }
  for (const holder of spellings('HostConfig')) {
    for (const name of spellings(field).slice(0, 3)) {
      add(`as ${name} in ${holder}`, { ...surface.body, [holder]: { [name]: value } })
    }
  }
  for (const wrapper of WRAPPERS) {
    const inside = wrapper === 'constructor' ? { prototype: { [field]: value } } : { HostConfig: { [field]: value } }
    add(`in ${wrapper}`, { ...surface.body, [wrapper]: inside })
  }
  const [text, put] = [JSON.stringify(surface.body), JSON.stringify({ [field]: value })]
  const raw = (how: string, members: string) => made.push({ how, body: `${text.slice(0, -1)},${members}}` })
  raw('in __proto__', `"__proto__":${put}`)
  raw('in an escaped __proto__', `"__pro\\u0074o__":{"HostConfig":${put}}`)
  raw('in HostConfig, which comes again empty', `"HostConfig":${put},"HostConfig":{}`)
  raw('in an empty HostConfig that comes again', `"HostConfig":{},"HostConfig":${put}`)
  raw('in an escaped name', `"\\u0048ostConfig":${put}`)
  add('in a list', [{ ...surface.body, [field]: value }])
  made.push({ how: 'as text of JSON', body: JSON.stringify(JSON.stringify({ ...surface.body, [field]: value })) })
  return made
}

/** The body with more fields in one of its nested objects. */
function within(body: Body, [step = '', ...rest]: readonly string[], fields: Body): unknown {
  const inner = body[step]
  const next = (child: unknown): unknown =>
    rest.length === 0 ? { ...(child as Body), ...fields } : within(child as Body, rest, fields)
  const changed = next(inner)
  if (!Array.isArray(body)) return { ...body, [step]: changed }
  return body.map((item, at) => (String(at) === step ? changed : item))
}
