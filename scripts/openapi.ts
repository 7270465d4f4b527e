/** Writes openapi.yaml from the routes' schemas; with `--check`, fails where the file is not in step. */
import { readFileSync, writeFileSync } from 'node:fs'
import { pino } from 'pino'
import { type AppServices, buildApp } from '../src/app.ts'

const FILE = new URL('../openapi.yaml', import.meta.url)

// Describing the routes calls no manager: each is asked for when a request comes.
const services = { counts: () => ({ tools_queued: 0, tools_running: 0, relics: 0 }) } as unknown as AppServices
const app = await buildApp({ services, log: pino({ level: 'silent' }) })
await app.ready()
const yaml = app.swagger({ yaml: true })
await app.close()

if (process.argv.includes('--check')) {
  let present = ''
  try {
    present = readFileSync(FILE, 'utf8')
  } catch {
    // Reported below as not in step.
  }
  if (present !== yaml) {
    process.stderr.write('openapi.yaml is not in step with the schemas: run `npm run openapi` and commit it\n')
    process.exit(1)
  }
} else {
  writeFileSync(FILE, yaml)
}
