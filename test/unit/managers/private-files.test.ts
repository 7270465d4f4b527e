import { execFileSync } from 'node:child_process'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type PrivateContent, packPrivate } from '../../../src/managers/private-files.ts'
import { assignments } from '../../../src/managers/shell-word.ts'
import { temporaryFolder } from '../support/folders.ts'
import { readTar } from '../support/tar.ts'

const packed = (content: Partial<PrivateContent>) =>
  readTar(packPrivate({ variables: {}, files: [], placed: [], ...content }))

/** What a process is told that a shell starts after it has read these assignments. */
async function exported(names: readonly string[], text: string): Promise<string[]> {
  const file = join(await temporaryFolder(), 'environment')
  await writeFile(file, text)
  const print = `process.stdout.write(JSON.stringify(process.argv.slice(1).map((name) => process.env[name] ?? null)))`
  const script = '. "$1" || exit 125; shift; exec "$@"'
  const argv = ['-c', script, 'sh', file, process.execPath, '-e', print, '--', ...names]
  return JSON.parse(execFileSync('sh', argv, { env: { PATH: process.env['PATH'] }, encoding: 'utf8' })) as string[]
}

const DIFFICULT = [
  '',
  ' ',
  "it's",
  "'",
  "'''",
  '"double"',
  '$(touch /tmp/pwned)',
  '`touch /tmp/pwned`',
  '${HOME}',
  '$HOME $$ $? !!',
  'line\nbreak\n',
  '\n\n',
  'carriage\r\nreturn',
  '\ttab',
  'back\\slash\\',
  "\\'",
  '; exit 1',
  '# no comment',
  '* ? [a-z] ~ {a,b}',
  'a=b&c|d<e>f(g)',
  '-n',
  '漢字 🦀 é',
  '\u0001\u001b[31m\u007f',
  "'; export PWNED='1",
]

describe('assignments', () => {
  it('hand every value on, byte for byte', async () => {
    const variables = Object.fromEntries(DIFFICULT.map((value, index) => [`V_${index}`, value]))
    expect(await exported([...Object.keys(variables), 'PWNED'], assignments(variables))).toEqual([...DIFFICULT, null])
  })

  it('hand on whatever a value may be', async () => {
    const character = fc.constantFrom("'", '"', '\\', '$', '`', '(', ')', '\n', ' ', '#', ';', 'a', 'é', '🦀', '\u0001')
    const value = fc.oneof(fc.string({ unit: character, maxLength: 40 }), fc.string({ unit: 'binary', maxLength: 40 }))
    // One shell for many values: starting it is what takes time.
    const values = fc.sample(value, 500).map((text) => text.replaceAll('\0', ''))
    const variables = Object.fromEntries(values.map((text, index) => [`V${index}`, text]))
    expect(await exported(Object.keys(variables), assignments(variables))).toEqual(values)
  })

  it('are nothing for no variables', () => {
    expect(assignments({})).toBe('')
  })
})

describe('packPrivate', () => {
  it('always has what the first process reads', async () => {
    const entries = await packed({})
    expect(entries.map(({ name, content }) => [name, content.toString()])).toEqual([
      ['environment', ''],
      ['setup', ''],
    ])
  })

  it('has variables and secrets for the user alone, and what may be read by all where it is said', async () => {
    const entries = await packed({
      variables: { TOKEN: "it's" },
      files: [
        { name: 'git-token', content: 'hush\n', mode: 0o600 },
        { name: 'known', content: Buffer.from([0, 255, 10]), mode: 0o644 },
      ],
      placed: [{ content: Buffer.from('key'), target: '/home/dev/.key' }],
    })
    expect(entries.map(({ name, type, mode }) => [name, type, mode])).toEqual([
      ['environment', 'file', 0o600],
      ['placed-0', 'file', 0o600],
      ['setup', 'file', 0o600],
      ['git-token', 'file', 0o600],
      ['known', 'file', 0o644],
    ])
    const contents = new Map(entries.map(({ name, content }) => [name, content]))
    expect(contents.get('environment')?.toString()).toBe("export TOKEN='it'\\''s'\n")
    expect(contents.get('placed-0')?.toString()).toBe('key')
    expect(contents.get('known')).toEqual(Buffer.from([0, 255, 10]))
  })

  it('says nothing of placed content, and nothing of values, beside where they belong', async () => {
    const entries = await packed({
      variables: { TOKEN: 'hush-4711' },
      placed: [{ content: Buffer.from('hush-4712'), target: '/k' }],
    })
    const holding = (secret: string) =>
      entries.filter(({ content }) => content.includes(secret)).map(({ name }) => name)
    expect(holding('hush-4711')).toEqual(['environment'])
    expect(holding('hush-4712')).toEqual(['placed-0'])
  })

  it('has a set-up that puts files where they belong, whatever the place is called', async () => {
    const folder = await temporaryFolder()
    const targets = ['plain', 'deep/er/file', "it's/$(touch pwned)/`x`", 'a "b" \\ c/d e', 'line\nbreak/x'].map(
      (name) => join(folder, 'home', name),
    )
    const entries = await packed({
      placed: targets.map((target, index) => ({ content: Buffer.from([index, 0, 255]), target })),
    })
    const own = join(folder, 'private')
    await mkdir(own)
    for (const { name, content, mode } of entries) await writeFile(join(own, name), content, { mode: mode ?? 0 })
    // Both are where they are in containers only.
    const setup = (await readFile(join(own, 'setup'), 'utf8'))
      .replaceAll('/.toolbox/busybox ', '')
      .replaceAll('/run/worker/', `${own}/`)
    execFileSync('sh', ['-c', setup], { cwd: own })
    for (const [index, target] of targets.entries()) {
      expect(await readFile(target), target).toEqual(Buffer.from([index, 0, 255]))
      expect((await stat(target)).mode & 0o777).toBe(0o600)
    }
    await expect(stat(join(own, 'pwned'))).rejects.toMatchObject({ code: 'ENOENT' })
  })
})
