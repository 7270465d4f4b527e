/**
 * Imports go one way: main → app → routes → managers → { engine, store, policy }, as drawn in
 * docs/ARCHITECTURE.md. A room may import itself and the rooms listed for it; `npm run imports`
 * holds the code to it, types included.
 */

/** Known to every room, and know only each other. */
const GROUND = [
  'domain',
  'errors',
  'failpoints',
  'garbage',
  'labels',
  'log-lines',
  'side-by-side',
  'sync-folder',
  'version',
]

/** What each room of src/ may import beside itself. */
const ROOMS = {
  // With main the composition root: it makes the managers and joins them.
  services: ['managers', 'engine', 'store', 'config', ...GROUND],
  app: ['routes', 'plugins', 'managers', 'access', 'config', ...GROUND],
  routes: ['managers', 'access', ...GROUND],
  plugins: ['audit', ...GROUND],
  // Commands of the operator, each a program of its own.
  cli: ['access', 'audit', 'config', ...GROUND],
  access: ['store', ...GROUND],
  audit: GROUND,
  managers: ['engine', 'store', 'policy', ...GROUND],
  // Policy writes the engine's typed specs, and touches no engine.
  policy: ['engine/spec', ...GROUND],
  engine: GROUND,
  store: GROUND,
  // The schema of the settings borrows the types of what it sets.
  config: ['config-file', 'policy', ...GROUND],
  'config-file': ['policy', 'engine/spec', ...GROUND],
  domain: GROUND,
  errors: GROUND,
  failpoints: GROUND,
  garbage: GROUND,
  labels: GROUND,
  'idle-collection': GROUND,
  'log-lines': GROUND,
  'side-by-side': GROUND,
  'sync-folder': GROUND,
  version: GROUND,
}

/** A room is a folder or a file of that name. */
const inRooms = (rooms) => `^src/(${rooms.join('|')})(/|[.]ts$)`

/** A path in node_modules, wherever npm put it. */
const packages = (...names) => `(^|/)node_modules/(${names.join('|')})(/|$)`

const oneWay = Object.entries(ROOMS).map(([room, below]) => ({
  name: `${room}-imports-only-what-is-below`,
  comment: `src/${room} may import itself and: ${below.join(', ')}.`,
  severity: 'error',
  from: { path: inRooms([room]) },
  to: { path: '^src/', pathNot: inRooms([room, ...below]) },
}))

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    ...oneWay,
    {
      name: 'every-file-has-a-room',
      comment: 'A new room takes its place in ROOMS above.',
      severity: 'error',
      from: {},
      to: { path: '^src/', pathNot: inRooms(['main', ...Object.keys(ROOMS)]) },
    },
    {
      name: 'nobody-imports-main',
      comment: 'main.ts is the composition root: importing it would start the service.',
      severity: 'error',
      from: {},
      to: { path: '^src/main[.]ts$' },
    },
    {
      name: 'docker-stays-behind-the-engine',
      comment: 'What speaks to Docker lives in src/engine/docker; all others ask the Engine interface.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/engine/docker/' },
      to: { path: packages('dockerode', '@types/dockerode', 'docker-modem') },
    },
    {
      name: 'undici-serves-the-engine',
      comment: 'undici carries the long streams of the Docker adapter.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/engine/docker/' },
      to: { path: packages('undici') },
    },
    {
      name: 'adapters-are-chosen-by-main',
      comment: 'A manager knows the Engine interface; which engine stands behind it is for main to say.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/(main[.]ts$|engine/)' },
      to: { path: '^src/engine/(docker/|memory)' },
    },
    {
      name: 'domain-is-plain',
      comment: 'The domain is schemas and their types: zod is all it needs.',
      severity: 'error',
      from: { path: '^src/domain/' },
      to: { path: 'node_modules', pathNot: packages('zod') },
    },
    {
      name: 'no-cycles',
      comment: 'Two files that need each other are one idea, or three.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'no-unresolved',
      comment: 'An import that leads nowhere.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'production-code-needs-production-packages',
      comment: 'The image installs no dev dependencies.',
      severity: 'error',
      from: { path: '^src/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'], dependencyTypesNot: ['type-only'] },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    // Counts `import type` too: a type known upwards is a house upside down.
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
    },
    builtInModules: { add: ['node:sqlite'] },
  },
}
