/** The image's HEALTHCHECK: exit status 0 where the service in this container is alive. */
const port = process.env['CO_PORT'] || '8086'

try {
  const answer = await fetch(`http://127.0.0.1:${port}/livez`, { signal: AbortSignal.timeout(4_000) })
  if (!answer.ok) throw new Error(`/livez answered ${answer.status}`)
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
}
