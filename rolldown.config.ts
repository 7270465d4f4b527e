/** What `npm run build` makes of the sources and their packages: one file for the service, some for its commands. */
import { join } from 'node:path'
import { defineConfig, type OutputOptions, type Plugin, type RolldownOptions } from 'rolldown'

const stand = (name: string) => join(import.meta.dirname, 'scripts/build', name)

/** What dockerode loads for engines behind SSH and for BuildKit's sessions: a seventh of all modules, and never used. */
const NEVER_USED = ['ssh2', '@grpc/grpc-js', '@grpc/proto-loader', 'protobufjs']

/** Where a source has one character beyond Latin-1, V8 keeps two bytes for each of its four million. */
const ascii: Plugin = {
  name: 'ascii',
  generateBundle(_options, bundle) {
    for (const file of Object.values(bundle)) if (file.type === 'chunk') file.code = escaped(file.code)
  },
}

const shared: RolldownOptions = {
  platform: 'node',
  resolve: {
    alias: {
      ...Object.fromEntries(NEVER_USED.map((name) => [name, stand('absent.cjs')])),
      undici: stand('undici-pool.cjs'),
      'node:http': stand('http.cjs'),
      http: stand('http.cjs'),
    },
  },
  plugins: [ascii],
}

const output: OutputOptions = {
  dir: 'dist',
  format: 'esm',
  entryFileNames: '[name].js',
  // A line of a stack can be read; what is left out are remarks, but for licences.
  comments: { annotation: false, jsdoc: false, legal: true },
  sourcemap: true,
}

export default defineConfig([
  {
    ...shared,
    input: { 'cli/keys': 'src/cli/keys.ts', 'cli/audit': 'src/cli/audit.ts' },
    output: { ...output, cleanDir: true, chunkFileNames: 'cli/[name]-[hash].js' },
  },
  // A service that runs on loads nothing more: a later build may replace its file.
  { ...shared, input: { main: 'src/main.ts' }, output: { ...output, codeSplitting: false } },
])

/** With comments gone, what is not ASCII is within strings, templates and regular expressions. */
function escaped(code: string): string {
  return code.replace(/[^\0-\x7f]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
