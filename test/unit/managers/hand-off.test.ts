import { execFileSync, spawnSync } from 'node:child_process'
import { access, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { argvOf, canHandOver, encodeHandOff, type HandOff } from '../../../src/managers/hand-off.ts'
import { BUSYBOX, packPrograms, UNSTARTED_CODE, UNSTARTED_FILE } from '../../../src/managers/toolbox-programs.ts'
import { readTar } from '../support/tar.ts'

/** What scripts/setup.sh installs: the binary of the toolbox. */
const LOCAL_BUSYBOX = execFileSync('/bin/sh', ['-c', 'command -v busybox'], { encoding: 'utf8' }).trim()
const PATH = '/usr/bin:/bin'

/** Tells all that a program is told, as the kernel has it. */
const TELL = ['busybox', 'sh', '-c', 'cat /proc/$$/cmdline >argv; cat /proc/$$/environ >environ; cat >stdin', 'tell']

let folder: string
let start: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'co-unit-'))
  start = join(folder, 'tool-start')
  const program = (await readTar(packPrograms())).find(({ name }) => name === 'tool-start')
  const text = program?.content.toString() ?? ''
  await writeFile(
    start,
    text.replaceAll(BUSYBOX, LOCAL_BUSYBOX).replaceAll(UNSTARTED_FILE, join(folder, 'unstarted')),
    {
      mode: 0o755,
    },
  )
})

afterAll(() => rm(folder, { recursive: true, force: true }))

interface End {
  code: number | null
  stdout: string
  stderr: string
  /** It left its mark: no tool was run. */
  unstarted: boolean
}

/** `tool-start` in a container of an image with this environment, with this on its stdin. */
async function startWith(stdin: Buffer, environment: readonly string[] = [`PATH=${PATH}`], cwd = folder): Promise<End> {
  await rm(join(folder, 'unstarted'), { force: true })
  // What is in the environment is told by the argv of env: a process of Node's passes on no two of one name.
  const { status, stdout, stderr } = spawnSync('/usr/bin/env', ['-i', ...environment, start], { input: stdin, cwd })
  const unstarted = await access(join(folder, 'unstarted')).then(
    () => true,
    () => false,
  )
  return { code: status, stdout: stdout.toString(), stderr: stderr.toString(), unstarted }
}

function handOver(handOff: Partial<HandOff>, environment: readonly string[] = [`PATH=${PATH}`], cwd?: string) {
  const whole = { environment: {}, argv: ['true'], ...handOff }
  return startWith(encodeHandOff(whole, { environment }), environment, cwd)
}

/** What a program was told that was to be told this. */
async function told({ argv, ...handOff }: HandOff, image: readonly string[] = [`PATH=${PATH}`]): Promise<HandOff> {
  const end = await handOver({ ...handOff, argv: [...TELL, ...argv] }, image)
  expect(end).toEqual({ code: 0, stdout: '', stderr: '', unstarted: false })
  const read = (name: string) => readFile(join(folder, name), 'utf8')
  const words = (text: string) => text.split('\0').slice(0, -1)
  const variables = words(await read('environ')).map((word) => [word.replace(/=.*/s, ''), word.replace(/^.*?=/s, '')])
  expect(words(await read('argv')).slice(0, TELL.length)).toEqual(TELL)
  return {
    environment: Object.fromEntries(variables),
    argv: words(await read('argv')).slice(TELL.length),
    stdin: await read('stdin'),
  }
}

const DIFFICULT = [
  '',
  ' ',
  "it's",
  "'''",
  '"double" \\"',
  "$HOME ${HOME} $(id) `id` $((1+1)) $'\\n' !!",
  '\n',
  'line\nbreak\n\n',
  'carriage\r\nreturn',
  '\ttab\v\f\b',
  'back\\slash\\',
  "\\'",
  "'; exit 1; '",
  '# * ? [a-z] ~ {a,b} a=b&c|d<e>f(g);',
  '--',
  '-a',
  '\u0001\u001b[31m\u007f\u0080\u0081\u0084\u0088\u009b',
  '漢字 🦀 é ÁÈ',
  'a'.repeat(100_000),
]

const character = fc.constantFrom(...`'"\\$\`(){};&|<>#*?~!= \t\r\n-a1éÁ漢🦀\u0001\u0081\u0088\u007f`)
const text = fc
  .oneof(fc.string({ unit: character, maxLength: 30 }), fc.string({ unit: 'binary', maxLength: 30 }))
  .map((value) => value.replaceAll('\0', ''))
const name = fc
  .stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,10}$/)
  .filter((candidate) => candidate !== 'PATH' && canHandOver({ [candidate]: '' }, { environment: [] }))
const variables = fc.dictionary(name, text, { maxKeys: 5, noNullPrototype: true })

describe('a hand-off', () => {
  it('arrives byte for byte, however difficult', async () => {
    const environment = Object.fromEntries(DIFFICULT.map((value, index) => [`V_${index}`, value]))
    const handOff = { environment, argv: DIFFICULT, stdin: DIFFICULT.join('\n') }
    expect(await told(handOff)).toEqual({ ...handOff, environment: { PATH, ...environment } })
  })

  it('arrives byte for byte, whatever it is', async () => {
    const handOffs = fc.record({ environment: variables, argv: fc.array(text, { maxLength: 5 }), stdin: text })
    await fc.assert(
      fc.asyncProperty(handOffs, variables, async (handOff, own) => {
        const image = [`PATH=${PATH}`, ...Object.entries(own).map(([key, value]) => `${key}=${value}`)]
        expect(await told(handOff, image)).toEqual({
          ...handOff,
          environment: { PATH, ...own, ...handOff.environment },
        })
      }),
      { numRuns: 40 },
    )
  })

  it('leaves the tool all that follows, and not a byte of itself', async () => {
    const stdin = Buffer.concat([Buffer.from([0, 255, 10, 0]), Buffer.alloc(300_000, 'x\n'), Buffer.from([0])])
    const handOff = encodeHandOff({ environment: {}, argv: [...TELL], stdin: '' }, { environment: [] })
    expect(await startWith(Buffer.concat([handOff, stdin]))).toMatchObject({ code: 0 })
    expect((await readFile(join(folder, 'stdin'))).equals(stdin)).toBe(true)
  })

  it('without stdin gives the tool one that has ended, and can be written to as that of any container', async () => {
    const end = await handOver({ argv: ['busybox', 'sh', '-c', 'cat; readlink /proc/$$/fd/0; echo x >&0'] })
    expect(end).toMatchObject({ code: 0, stdout: '/dev/null\n', stderr: '' })
  })

  it('opens nothing else for the tool, and blocks and ignores no signal', async () => {
    const look = ['busybox', 'sh', '-c', "ls /proc/$$/fd; grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status"]
    const own = spawnSync('/usr/bin/env', ['-i', `PATH=${PATH}`, ...look], { input: '', encoding: 'utf8' })
    expect((await handOver({ argv: look, stdin: '' })).stdout).toBe(own.stdout)
  })

  it('changes neither the folder nor the mask of modes', async () => {
    const deep = join(folder, "it's $deep")
    await mkdir(deep)
    const end = await handOver({ argv: ['busybox', 'sh', '-c', 'readlink /proc/$$/cwd; umask'] }, undefined, deep)
    expect(end.stdout).toBe(`${deep}\n0022\n`)
  })

  it('passes on what the image exports of names that are a shell’s own', async () => {
    const image = [`PATH=${PATH}`, 'PWD=/elsewhere', 'OLDPWD=', 'SHLVL=7', 'HOME=/h', 'TERM=x', '_=under']
    const { environment } = await told({ environment: { OLDPWD: 'mine' }, argv: [] }, image)
    expect(environment).toEqual({
      PATH,
      PWD: '/elsewhere',
      OLDPWD: 'mine',
      SHLVL: '7',
      HOME: '/h',
      TERM: 'x',
      _: 'under',
    })
  })
})

describe('a hand-off that is cut off', () => {
  it('runs nothing, wherever that is, and says so', async () => {
    const whole = encodeHandOff(
      { environment: { A: "it's\n" }, argv: ['touch', 'ran'], stdin: 'of the tool' },
      { environment: [] },
    )
    const length = whole.length - 'of the tool'.length
    for (let cut = 0; cut < length; cut += cut < 40 || cut > length - 40 ? 1 : 7) {
      const end = await startWith(whole.subarray(0, cut))
      expect(end, `after ${cut} of ${length} bytes`).toEqual({
        code: UNSTARTED_CODE,
        stdout: '',
        stderr: '',
        unstarted: true,
      })
    }
    await expect(access(join(folder, 'ran'))).rejects.toMatchObject({ code: 'ENOENT' })
    expect(await startWith(whole.subarray(0, length))).toMatchObject({ code: 0, unstarted: false })
    await access(join(folder, 'ran'))
  })

  it('runs nothing of what is no hand-off at all', async () => {
    for (const noise of ['touch ran2\n', '10 aa\ntouch ran2\n', '0 \n', 'x y\n', '-1 aa\n', '99999999999 aa\nx']) {
      expect(await startWith(Buffer.from(noise)), noise).toMatchObject({ code: UNSTARTED_CODE, unstarted: true })
    }
    await expect(access(join(folder, 'ran2'))).rejects.toMatchObject({ code: 'ENOENT' })
  })
})

describe('the program', () => {
  const files = {
    'script.sh': '#! /bin/sh -e\necho "$0" "$@"',
    'bare.txt': 'echo text\n',
    'orphan.sh': '#!/no/such/interpreter\necho x\n',
    'nested.sh': '#!SCRIPT\n',
    'crlf.sh': '#!/bin/sh\r\necho x\n',
    'empty.sh': '',
    'long.sh': `#!/${'x'.repeat(300)}\n`,
  }
  let tools: string
  beforeAll(async () => {
    tools = join(folder, 'tools')
    await mkdir(join(tools, 'sub'), { recursive: true })
    for (const [file, content] of Object.entries(files)) {
      await writeFile(join(tools, file), content.replace('SCRIPT', join(tools, 'script.sh')), { mode: 0o755 })
    }
    await writeFile(join(tools, 'plain.sh'), files['script.sh'], { mode: 0o644 })
    await symlink('../script.sh', join(tools, 'sub', 'link'))
  })

  it.each([
    ['an absolute path', () => join(tools, 'script.sh')],
    ['a path from the folder', () => './script.sh'],
    ['a path up from the folder', () => '../tools/script.sh'],
    ['a path without a dot', () => 'sub/link'],
  ])('is found by %s', async (_how, path) => {
    const end = await handOver({ argv: [path(), 'a', ''] }, undefined, tools)
    expect(end).toEqual({ code: 0, stdout: `${path()} a \n`, stderr: '', unstarted: false })
  })

  it.each([
    ['of the image', [`PATH=/nowhere:TOOLS:${PATH}`], {}],
    ['of the request', [`PATH=${PATH}`], { PATH: `/nowhere:TOOLS` }],
    ['where a part of it is the folder itself', [`PATH=/nowhere::${PATH}`], {}],
    ['where its end is the folder itself', [`PATH=/nowhere:`], {}],
  ])('is found by the PATH %s', async (_whose, image, environment) => {
    const own = (value: string) => value.replace('TOOLS', tools)
    const end = await handOver(
      {
        argv: ['script.sh', 'x'],
        environment: Object.fromEntries(Object.entries(environment).map(([key, value]) => [key, own(value)])),
      },
      image.map(own),
      tools,
    )
    expect(end).toMatchObject({ code: 0, stderr: '' })
    expect(end.stdout).toMatch(/script\.sh x\n$/)
  })

  it('has the name that it was called by', async () => {
    const { argv } = await told({ environment: {}, argv: ['x'] })
    expect(argv).toEqual(['x'])
    const end = await handOver({ argv: [LOCAL_BUSYBOX, 'sh', '-c', 'cat /proc/$$/cmdline; true'] })
    expect(end.stdout.split('\0')[0]).toBe(LOCAL_BUSYBOX)
  })

  it.each([
    ['is missing', () => '/no/such/program'],
    ['is not in PATH', () => 'script.sh'],
    ['is a folder', () => tools],
    ['may not be executed', () => join(tools, 'plain.sh')],
    ['is text without an interpreter', () => join(tools, 'bare.txt')],
    ['is empty', () => join(tools, 'empty.sh')],
    ['has an interpreter that is missing', () => join(tools, 'orphan.sh')],
    ['has an interpreter with a carriage return', () => join(tools, 'crlf.sh')],
    ['has an interpreter that is a script', () => join(tools, 'nested.sh')],
    ['has an interpreter longer than the kernel reads', () => join(tools, 'long.sh')],
    ['is empty text', () => ''],
    ['looks like an option', () => '-c'],
  ])('is left to a container of its own where it %s', async (_what, path) => {
    expect(await handOver({ argv: [path(), 'x'] })).toEqual({
      code: UNSTARTED_CODE,
      stdout: '',
      stderr: '',
      unstarted: true,
    })
  })

  it('may end as one that was not run, without being taken for that', async () => {
    expect(await handOver({ argv: ['busybox', 'sh', '-c', `exit ${UNSTARTED_CODE}`] })).toMatchObject({
      code: UNSTARTED_CODE,
      unstarted: false,
    })
  })
})

describe('canHandOver', () => {
  it('says no to names that a shell cannot pass on, of request and image', () => {
    const image = { environment: [] }
    for (const own of ['IFS', 'PPID', 'OPTIND', 'RANDOM', 'LINENO', '_w_stdin', '_w_']) {
      expect(canHandOver({ [own]: 'x' }, image), own).toBe(false)
      expect(canHandOver({}, { environment: [`${own}=x`] }), own).toBe(false)
    }
    expect(canHandOver({}, { environment: ['with.dot=x'] })).toBe(false)
    expect(canHandOver({ A: '', _w: 'x', PATH: '', HOME: '=' }, { environment: ['A=b=c', 'EMPTY='] })).toBe(true)
  })
})

describe('argvOf', () => {
  const image = { entrypoint: ['init', '--'], command: ['serve'] }
  it.each([
    ['neither', {}, ['init', '--', 'serve']],
    ['a command', { command: ['x'] }, ['init', '--', 'x']],
    ['an entrypoint', { entrypoint: ['y'] }, ['y']],
    ['both', { entrypoint: ['y'], command: ['x'] }, ['y', 'x']],
  ])('is what an engine starts for a request with %s', (_what, request, argv) => {
    expect(argvOf(request, image)).toEqual(argv)
  })
})
