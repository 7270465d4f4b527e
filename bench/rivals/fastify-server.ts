/** A bare Fastify that answers one JSON document, as a process: `fastify-server.ts FILE`. Prints its address. */
import { readFileSync } from 'node:fs'
import fastify from 'fastify'

const document = JSON.parse(readFileSync(String(process.argv[2]), 'utf8')) as unknown
const app = fastify()
app.get('/containers/tool/:execution_id', async () => document)
process.stdout.write(`${await app.listen({ host: '127.0.0.1', port: 0 })}\n`)
