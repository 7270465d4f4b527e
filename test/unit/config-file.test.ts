import { mkdir, symlink, writeFile } from 'node:fs/promises'
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
      build: {
        network: 'none',
        memoryBytes: 2 * 1024 ** 3,
        cpus: 2,
        timeoutSeconds: 900,
        maxImageBytes: undefined,
      },
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
    ['kinds', 'kinds: []'],
    ['kinds', 'kinds: [session]'],
    ['capabilities', 'capabilities: [NET_RAW]'],
    ['capabilities', 'capabilities: [SYS_ADMIN]'],
    ['networks', 'networks: []'],
    ['networks', 'networks: [host]'],
    ['images', 'images: ["a b"]'],
    ['images', 'images: python'],
    ['max', 'max: {memory: 1}'],
    ['max.memory_mb', 'max: {memory_mb: 7}'],
    ['max.memory_mb', 'max: {memory_mb: 1g}'],
    ['max.cpu_limit', 'max: {cpu_limit: 0}'],
    ['max.timeout_seconds', 'max: {timeout_seconds: -1}'],
    ['max.pids_limit', 'max: {pids_limit: 3.5}'],
    ['credentials', 'credentials: ["a b"]'],
    ['gpu', 'gpu: all'],
    ['build', 'build: 1'],
    ['runtime', 'runtime: ""'],
    ['runtime', 'runtime: ../runsc'],
    ['runtime', 'runtime: /usr/bin/runsc'],
    ['egress', 'egress: {}'],
    ['egress.hosts', 'egress: {hosts: []}'],
    ['egress.ports', 'egress: {hosts: [example.org], ports: []}'],
    ['egress.ports.0', 'egress: {hosts: [example.org], ports: [0]}'],
    ['egress.ports.0', 'egress: {hosts: [example.org], ports: [65536]}'],
    ['egress.private_ranges.0', 'egress: {hosts: [example.org], private_ranges: [10.0.0.0]}'],
    ['egress.private_ranges.0', 'egress: {hosts: [example.org], private_ranges: [10.0.0.256/8]}'],
    ['egress.private_ranges.0', 'egress: {hosts: [example.org], private_ranges: [10.0.0.0/33]}'],
    ['egress.private_ranges.0', 'egress: {hosts: [example.org], private_ranges: ["fd00::/8"]}'],
    ...[
      '*',
      '*.org.',
      'a..b',
      '.a',
      '*example.org',
      'a.*.org',
      'http://a',
      'a:80',
      'a/b',
      '-a.org',
      '10.0.0.1',
      '7',
      '""',
    ].map((host) => ['egress.hosts.0', `egress: {hosts: ["${host.replaceAll('"', '')}"]}`]),
  ])('are refused for a bad %s: %s', async (word, field) => {
    expect(await refusal(`profiles: {x: {extends: strict, ${field}}}`)).toContain(`profiles.x.${word}`)
  })
})

describe('a profile of the operator', () => {
  it('may set everything that a profile has', async () => {
    const { profiles } = await read(`
credentials: { git: {}, cloud: {} }
profiles:
  all:
    extends: strict
    kinds: [tool, worker]
    readonly_root: false
    may_write_root: true
    capabilities: [CHOWN]
    networks: [none, egress]
    egress: { hosts: [API.example.org, "*.example.com", proxy], ports: [443, 8443], private_ranges: [10.1.2.0/24] }
    images: ["python:*", "sha256:ab*"]
    max: { memory_mb: 2048, cpu_limit: 1.5, timeout_seconds: 60, pids_limit: 64 }
    host_roots: []
    credentials: [git]
    gpu: true
    build: false
    runtime: runsc
    tmp_mb: 64
    user: "7:7"
`)
    expect(profiles.get('all')).toEqual({
      ...STRICT,
      name: 'all',
      kinds: new Set(['tool', 'worker']),
      readonlyRoot: false,
      mayWriteRoot: true,
      capabilities: ['CHOWN'],
      networks: new Set(['none', 'egress']),
      egress: {
        hosts: ['api.example.org', '*.example.com', 'proxy'],
        ports: [443, 8443],
        privateRanges: ['10.1.2.0/24'],
      },
      images: [['python:*', 'sha256:ab*']],
      max: { memoryMegabytes: 2048, cpus: 1.5, timeoutSeconds: 60, pids: 64 },
      hostRoots: [],
      credentials: ['git'],
      gpu: true,
      build: false,
      runtime: 'runsc',
      tmpBytes: 64 * 1024 ** 2,
      user: '7:7',
    })
  })

  it('has of its base what it does not set, maxima one by one', async () => {
    const { profiles } = await read(`
profiles:
  base: { extends: strict, max: { memory_mb: 2048, cpu_limit: 1.5 }, images: [a], runtime: runsc, gpu: true }
  heir: { extends: base, max: { cpu_limit: 4, pids_limit: 64 }, gpu: false }
`)
    expect(profiles.get('heir')).toEqual({
      ...STRICT,
      name: 'heir',
      max: { memoryMegabytes: 2048, cpus: 4, pids: 64 },
      images: [['a']],
      runtime: 'runsc',
      gpu: false,
    })
  })

  it('reaches the ports of the web, and no private range, where its egress says nothing else', async () => {
    const { profiles } = await read(
      'profiles: { out: { extends: strict, networks: [egress], egress: { hosts: [a.b] } } }',
    )
    expect(profiles.get('out')?.egress).toEqual({ hosts: ['a.b'], ports: [80, 443], privateRanges: [] })
  })

  it('is refused with the network egress and no hosts', async () => {
    expect(await refusal('profiles: { out: { extends: strict, networks: [egress] } }')).toMatch(/"out".*hosts/)
  })

  it('is refused with hosts and without the network that leads to them', async () => {
    const file = 'profiles: { out: { extends: strict, egress: { hosts: [a.b] } } }'
    expect(await refusal(file)).toMatch(/"out".*"networks"/)
  })

  it('is refused with a credential set that there is not, also one of its base', async () => {
    const sets = 'credentials: { git: {} }\n'
    expect(await refusal(`${sets}profiles: { x: { extends: strict, credentials: [git, cloud] } }`)).toContain('"cloud"')
  })

  it('is refused where it extends none that stands before it', async () => {
    expect(await refusal('profiles: { a: { extends: b }, b: { extends: strict } }')).toMatch(/"a" extends "b"/)
  })

  describe('with host folders', () => {
    const within = async (content: string, roots: readonly string[]) =>
      readConfigFile(await fileWith(content), {}, roots).profiles.get('x')?.hostRoots
    const profile = (...folders: string[]) =>
      `profiles: { x: { extends: strict, host_roots: ${JSON.stringify(folders)} } }`

    it('has those that lie in what may be mounted at all, with their links resolved', async () => {
      const root = await temporaryFolder()
      await mkdir(join(root, 'data'))
      await symlink(join(root, 'data'), join(root, 'link'))
      expect(await within(profile(root, join(root, 'link')), [root])).toEqual([root, join(root, 'data')])
    })

    it('is refused where one lies elsewhere, leads elsewhere, is relative or is not there', async () => {
      const [root, outside] = [await temporaryFolder(), await temporaryFolder()]
      await symlink(outside, join(root, 'link'))
      for (const folder of [outside, join(root, 'link'), 'data', join(root, 'absent'), '/']) {
        const path = await fileWith(profile(folder))
        const error = thrown(() => readConfigFile(path, {}, [root]))
        expect(error).toBeInstanceOf(ConfigError)
        expect((error as Error).message).toContain(`host_roots: ${folder}: `)
      }
    })
  })
})

describe('build', () => {
  it('bounds what builds may use', async () => {
    const { build } = await read(
      'build: { network: bridge, memory_mb: 512, cpu_limit: 0.5, timeout_seconds: 60, max_image_mb: 100 }',
    )
    expect(build).toEqual({
      network: 'bridge',
      memoryBytes: 512 * 1024 ** 2,
      cpus: 0.5,
      timeoutSeconds: 60,
      maxImageBytes: 100 * 1024 ** 2,
    })
  })

  it.each([
    ['network', 'host'],
    ['memory_mb', '15'],
    ['cpu_limit', '0'],
    ['timeout_seconds', '0'],
    ['timeout_seconds', '86401'],
    ['max_image_mb', '0'],
    ['remote', 'x'],
  ])('is refused with %s: %s', async (name, value) => {
    expect(await refusal(`build: { ${name}: ${value} }`)).toContain(`build`)
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
