import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/config.ts'
import { readConfigFile } from '../../src/config-file.ts'
import { ConfigError } from '../../src/errors.ts'
import { STRICT, WORKSPACE } from '../../src/policy/profiles.ts'
import { temporaryFolder } from './support/folders.ts'
import { thrown } from './support/streams.ts'

const SECRET = 'hush-4711-hush'

async function fileWith(content: string): Promise<string> {
  const path = join(await temporaryFolder(), 'config.yaml')
  await writeFile(path, content)
  return path
}

const read = async (content: string, environment: Record<string, string> = {}) =>
  readConfigFile(await fileWith(content), environment)

/** The message of a file that is refused, after it was found to be one line. */
async function refusal(content: string, environment: Record<string, string> = {}): Promise<string> {
  const path = await fileWith(content)
  const error = thrown(() => readConfigFile(path, environment))
  expect(error).toBeInstanceOf(ConfigError)
  const { message } = error as ConfigError
  expect(message).toMatch(/^CO_CONFIG/)
  expect(message).not.toContain('\n')
  return message
}

describe('without a file', () => {
  it('there are the built-in profiles, and nothing else', () => {
    expect(readConfigFile(undefined, { TOKEN: SECRET })).toEqual({
      profiles: new Map([
        ['strict', STRICT],
        ['service', expect.objectContaining({ name: 'service' })],
        ['workspace', WORKSPACE],
      ]),
      sharedVolumes: [],
      credentials: new Map(),
      environmentPrefixes: [],
    })
  })
})

describe('a file that is not YAML', () => {
  it.each([
    ['an alias', `credentials: { a: { environment: { TOKEN: *${SECRET} } } }`],
    ['a brace', `credentials: { a: { environment: { TOKEN: "${SECRET}" }`],
    ['a tab', `credentials:\n\t${SECRET}: 1`],
  ])('is told without what stands in it: %s', async (_what, content) => {
    expect(await refusal(content)).not.toContain(SECRET)
  })
})

describe('profiles', () => {
  it('may fix the user, and forbid a writable root', async () => {
    const { profiles } = await read(`
profiles:
  sealed: { extends: workspace, may_write_root: false, user: "1000:100" }
  open: { extends: strict, may_write_root: true, user: "0" }
  heir: { extends: sealed, tmp_mb: 1 }
`)
    expect(profiles.get('sealed')).toEqual({ ...WORKSPACE, name: 'sealed', mayWriteRoot: false, user: '1000:100' })
    expect(profiles.get('open')).toEqual({ ...STRICT, name: 'open', mayWriteRoot: true, user: '0' })
    expect(profiles.get('heir')).toMatchObject({ mayWriteRoot: false, user: '1000:100', tmpBytes: 1024 ** 2 })
    expect(profiles.get('workspace')).toBe(WORKSPACE)
  })

  it.each([
    ['user', 'user: root'],
    ['user', 'user: "1000:staff"'],
    ['user', 'user: 1000'],
    ['user', 'user: "1:2:3"'],
    ['user', 'user: "-1"'],
    ['user', 'user: ""'],
    ['may_write_root', 'may_write_root: "no"'],
    ['may_write_root', 'may_write_root: 1'],
    ['readonly_root', 'readonly_root: "true"'],
  ])('are refused for a bad %s: %s', async (word, field) => {
    expect(await refusal(`profiles: {x: {extends: strict, ${field}}}`)).toContain(`profiles.x.${word}`)
  })
})

describe('worker_environment_prefixes', () => {
  it('are kept in their order', async () => {
    expect((await read('worker_environment_prefixes: [ACME, X_2, _y]')).environmentPrefixes).toEqual([
      'ACME',
      'X_2',
      '_y',
    ])
  })

  it.each(['[A-B]', '["2X"]', '[""]', '["A B"]', 'ACME', '[7]'])('are refused where they are %s', async (value) => {
    expect(await refusal(`worker_environment_prefixes: ${value}`)).toContain('worker_environment_prefixes')
  })
})

describe('credentials', () => {
  it('are the variables of the service, by the same name or another', async () => {
    const { credentials } = await read(
      'credentials: {cloud: {environment: {API_KEY: {variable: ACME_KEY}, TOKEN: {}, GONE: {}, EMPTY: {}}}}',
      { ACME_KEY: SECRET, TOKEN: 'token', EMPTY: '', API_KEY: 'another' },
    )
    expect(credentials.get('cloud')).toEqual({
      name: 'cloud',
      environment: {
        API_KEY: { name: 'ACME_KEY', value: SECRET, envFile: undefined },
        TOKEN: { name: 'TOKEN', value: 'token', envFile: undefined },
        GONE: { name: 'GONE', value: undefined, envFile: undefined },
        EMPTY: { name: 'EMPTY', value: undefined, envFile: undefined },
      },
      files: [],
      git: undefined,
    })
  })

  it('come from an .env file too, beside the file that names it unless the path is absolute', async () => {
    const folder = await temporaryFolder()
    await mkdir(join(folder, 'etc'))
    const path = join(folder, 'etc', 'config.yaml')
    await writeFile(
      path,
      `credentials:
  cloud:
    environment:
      BARE:
      NEAR: { env_file: secrets/near.env }
      UP: { env_file: ../up.env, variable: OTHER }
      FAR: { env_file: /srv/far.env }
`,
    )
    expect(readConfigFile(path, {}).credentials.get('cloud')?.environment).toEqual({
      BARE: { name: 'BARE', value: undefined, envFile: { path: join(folder, 'etc', '.env'), key: 'BARE' } },
      NEAR: { name: 'NEAR', value: undefined, envFile: { path: join(folder, 'etc/secrets/near.env'), key: 'NEAR' } },
      UP: { name: 'OTHER', value: undefined, envFile: { path: join(folder, 'up.env'), key: 'OTHER' } },
      FAR: { name: 'FAR', value: undefined, envFile: { path: '/srv/far.env', key: 'FAR' } },
    })
  })

  it('are files, which are mounted and needed unless it says otherwise', async () => {
    const { credentials } = await read(`
credentials:
  agent:
    files:
      - { source: /srv/agent, target: ~/.agent, mode: copy, only: [auth.json, settings], optional: true }
      - { source: /srv/ca.pem, target: /etc/ssl/ca.pem }
`)
    expect(credentials.get('agent')?.files).toEqual([
      { source: '/srv/agent', target: '~/.agent', mode: 'copy', only: ['auth.json', 'settings'], optional: true },
      { source: '/srv/ca.pem', target: '/etc/ssl/ca.pem', mode: 'mount', only: undefined, optional: false },
    ])
  })

  it('are a token for git, with a user name that most hosts take', async () => {
    const { credentials } = await read(
      `credentials:
  one: { git: { token: { variable: GIT_TOKEN } } }
  two: { git: { username: bot, token: { variable: GIT_TOKEN, env_file: /srv/.env } } }
`,
      { GIT_TOKEN: SECRET },
    )
    expect(credentials.get('one')?.git).toEqual({
      username: 'x-access-token',
      token: { name: 'GIT_TOKEN', value: SECRET, envFile: undefined },
    })
    expect(credentials.get('two')?.git).toEqual({
      username: 'bot',
      token: { name: 'GIT_TOKEN', value: SECRET, envFile: { path: '/srv/.env', key: 'GIT_TOKEN' } },
    })
  })

  it.each([
    ['an unknown field', '{tokens: {}}', 'tokens'],
    ['a bad name of a variable', '{environment: {"A-B": {}}}', 'environment.A-B'],
    ['a bad name of its source', '{environment: {A: {variable: "x y"}}}', 'environment.A.variable'],
    ['an unknown field of a source', '{environment: {A: {value: x}}}', 'value'],
    ['an empty .env file', '{environment: {A: {env_file: ""}}}', 'environment.A.env_file'],
    ['a relative source', '{files: [{source: a, target: /a}]}', 'files.0.source'],
    ['a relative target', '{files: [{source: /a, target: a}]}', 'files.0.target'],
    ['no target', '{files: [{source: /a}]}', 'files.0.target'],
    ['a target that leads up', '{files: [{source: /a, target: ~/../x}]}', 'files.0.target'],
    ['a target with a dot', '{files: [{source: /a, target: /x/./y}]}', 'files.0.target'],
    ["another user's home", '{files: [{source: /a, target: ~root/.ssh}]}', 'files.0.target'],
    ['a part that leads out', '{files: [{source: /a, target: /a, mode: copy, only: [../../x]}]}', 'files.0.only.0'],
    ['an absolute part', '{files: [{source: /a, target: /a, mode: copy, only: [/etc/x]}]}', 'files.0.only.0'],
    ['an unknown mode', '{files: [{source: /a, target: /a, mode: link}]}', 'files.0.mode'],
    ['an empty name of a part', '{files: [{source: /a, target: /a, only: [""]}]}', 'files.0.only'],
    ['a git without a token', '{git: {username: x}}', 'git.token'],
    ['a git token without a variable', '{git: {token: {env_file: /srv/.env}}}', 'git.token.variable'],
    ['a git token of nothing', '{git: {token: {}}}', 'git.token.variable'],
    ['an empty user name for git', '{git: {username: "", token: {variable: X}}}', 'git.username'],
  ])('are refused with %s, in one line that names it', async (_, set, word) => {
    const message = await refusal(`credentials: {cloud: ${set}}`)
    expect(message).toContain('cloud')
    expect(message).toContain(word)
  })

  it('are refused under a name that is none', async () => {
    expect(await refusal('credentials: {"a b": {}}')).toContain('a b')
  })

  it.each([
    ['in place of its source', `{environment: {TOKEN: ${SECRET}}}`],
    ['as a name of a variable', `{environment: {TOKEN: {variable: ${SECRET}}}}`],
    ['as a value', `{environment: {TOKEN: {value: ${SECRET}}}}`],
    ['in a list', `{environment: [TOKEN=${SECRET}]}`],
    ['as the token of git', `{git: {token: ${SECRET}}}`],
    ['as the variable of the token', `{git: {token: {variable: ${SECRET}}}}`],
    ['in a file that is no YAML', `{environment: {TOKEN: "${SECRET}" x}}`],
    ['in a file that ends too soon', `{environment: {TOKEN: "${SECRET}`],
  ])('are never told by a message where an operator wrote one %s', async (_, set) => {
    expect(await refusal(`credentials:\n  cloud: ${set}\n`)).not.toContain(SECRET)
  })

  it('are never told by a message about another setting', async () => {
    const set = 'credentials: {cloud: {environment: {API_TOKEN: {}}}}\n'
    expect(await refusal(`${set}shared_volumes: [/]`, { API_TOKEN: SECRET })).not.toContain(SECRET)
    const CO_CONFIG = await fileWith(set)
    const error = thrown(() => loadConfig({ CO_CONFIG, API_TOKEN: SECRET, CO_PORT: 'x' }, '/nonexistent/.env'))
    expect((error as Error).message).toMatch(/^CO_PORT=x: /)
    expect((error as Error).message).not.toContain(SECRET)
  })
})

describe('the settings of the service', () => {
  it('have what the file says, and secrets of its own .env file', async () => {
    const folder = await temporaryFolder()
    const CO_CONFIG = join(folder, 'config.yaml')
    await writeFile(
      CO_CONFIG,
      'worker_environment_prefixes: [ACME]\ncredentials: {cloud: {environment: {FROM_FILE: {}, FROM_BOTH: {}}}}\n',
    )
    const envFile = join(folder, 'service.env')
    await writeFile(envFile, 'FROM_FILE=one\nFROM_BOTH=two\n')
    const config = loadConfig({ CO_CONFIG, FROM_BOTH: 'three' }, envFile)
    expect(config.workerEnvironmentPrefixes).toEqual(['ACME'])
    expect(config.credentials.get('cloud')?.environment).toMatchObject({
      FROM_FILE: { value: 'one' },
      FROM_BOTH: { value: 'three' },
    })
  })
})
