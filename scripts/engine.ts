/**
 * Says whether an engine answers: exit status 0, or the reason on standard output and status 1, or 2
 * where DOCKER_HOST names the engine: set-up may use that one, and not start it.
 */
import { callEngine, engineAddress } from './engine-client.ts'

try {
  const answer = await callEngine('GET', '/_ping')
  answer.resume()
  if (answer.statusCode !== 200) throw new Error(`it answered ${answer.statusCode} to a ping`)
} catch (error) {
  console.log(error instanceof Error ? error.message : error)
  process.exitCode = engineAddress().isDefault ? 1 : 2
}
