/** What `npm run build` makes of the sources and their packages: a file for the service and one for each command. */
import { join } from 'node:path'
import { defineConfig, type Plugin } from 'rolldown'

/** What dockerode loads for engines behind SSH and for BuildKit's sessions: a fifth of all modules, and never used. */
const NEVER_USED = ['ssh2', '@grpc/grpc-js', '@grpc/proto-loader', 'protobufjs']

/** Where a source has one character beyond Latin-1, V8 keeps two bytes for each of its four million. */
const ascii: Plugin = {
  name: 'ascii',
  generateBundle(_options, bundle) {
    for (const file of Object.values(bundle)) if (file.type === 'chunk') file.code = escaped(file.code)
  },
}

export default defineConfig({
  input: { main: 'src/main.ts', 'cli/keys': 'src/cli/keys.ts', 'cli/audit': 'src/cli/audit.ts' },
  platform: 'node',
  resolve: {
    alias: {
      ...Object.fromEntries(NEVER_USED.map((name) => [name, join(import.meta.dirname, 'scripts/build/absent.cjs')])),
      undici: join(import.meta.dirname, 'scripts/build/undici-pool.cjs'),
      'node:http': join(import.meta.dirname, 'scripts/build/http.cjs'),
      http: join(import.meta.dirname, 'scripts/build/http.cjs'),
    },
  },
  plugins: [ascii],
  output: {
    dir: 'dist',
    cleanDir: true,
    format: 'esm',
    entryFileNames: '[name].js',
    // Beside main.js: what looks for package.json looks in the folder above.
    chunkFileNames: '[name]-[hash].js',
    // A line of a stack can be read; what is left out are remarks, but for licences.
    comments: { annotation: false, jsdoc: false, legal: true },
    sourcemap: true,
  },
})

/** With comments gone, what is not ASCII is within strings, templates and regular expressions. */
function escaped(code: string): string {
  return code.replace(/[^\0-\x7f]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
