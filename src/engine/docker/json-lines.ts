import { EngineError } from '../../errors.ts'

const MAX_LINE_BYTES = 4 * 1024 * 1024

/**
 * The JSON objects of a stream with one on each line, as stats, pull and build send them. Characters
 * split between reads stay whole; a line that is not JSON, or longer than 4 MiB, is a `protocol` fault.
 */
export async function* jsonLines(source: AsyncIterable<Buffer>): AsyncGenerator<unknown> {
  let rest: Buffer[] = []
  let restBytes = 0
  for await (const data of source) {
    let from = 0
    for (let end = data.indexOf(10); end !== -1; end = data.indexOf(10, from)) {
      const line = Buffer.concat([...rest, data.subarray(from, end)])
      rest = []
      restBytes = 0
      from = end + 1
      yield* parsed(line)
    }
    if (from < data.length) {
      rest.push(data.subarray(from))
      restBytes += data.length - from
      if (restBytes > MAX_LINE_BYTES) throw tooLong()
    }
  }
  yield* parsed(Buffer.concat(rest))
}

function* parsed(line: Buffer): Generator<unknown> {
  if (line.length > MAX_LINE_BYTES) throw tooLong()
  const text = line.toString('utf8').trim()
  if (text === '') return
  try {
    yield JSON.parse(text)
  } catch (error) {
    throw new EngineError('protocol', `The engine sent a line that is not JSON: ${text.slice(0, 200)}`, {
      cause: error,
    })
  }
}

function tooLong(): EngineError {
  return new EngineError('protocol', 'The engine sent a line longer than 4 MiB')
}
