import { execFileSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import {
  HOSTS_FILE,
  LAST_PROGRAM,
  packPrograms,
  programPath,
  programsDigest,
  TOOLBOX_FOLDER,
} from '../../../src/managers/toolbox-programs.ts'
import { readTar } from '../support/tar.ts'

const NAMES = ['tool-start', 'worker-start', 'worker-exec', 'worker-kill', 'loopback-alone', 'git-askpass'] as const
const entries = await readTar(packPrograms())
const programs = entries.filter(({ name, type }) => type === 'file' && name !== HOSTS_FILE)

describe('the programs', () => {
  it('are all there, and may be run by anyone', () => {
    expect(programs.map(({ name }) => name).sort()).toEqual([...NAMES].sort())
    for (const { mode } of programs) expect(mode).toBe(0o755)
  })

  it.each(NAMES)('%s is a script that a shell can read, run by the busybox of the toolbox', (name) => {
    const text = programs.find((program) => program.name === name)?.content.toString() ?? ''
    expect(text.split('\n')[0]).toBe('#!/.toolbox/busybox sh')
    execFileSync('sh', ['-n'], { input: text })
  })

  it.each(NAMES)('%s lies where it is called', (name) => {
    expect(programPath(name)).toBe(`${TOOLBOX_FOLDER}/${name}`)
  })

  it('end with the one that tells that all are there', () => {
    expect(entries.at(-1)?.name).toBe(LAST_PROGRAM)
  })

  it('know their loopback by its name', () => {
    const hosts = entries.find(({ name }) => name === HOSTS_FILE)
    expect(hosts).toMatchObject({ mode: 0o644 })
    expect(String(hosts?.content)).toMatch(/^127\.0\.0\.1\tlocalhost\n::1\tlocalhost /)
  })

  it('are the same each time', async () => {
    expect(await readTar(packPrograms())).toEqual(entries)
    expect(programsDigest()).toMatch(/^[0-9a-f]{8}$/)
    expect(programsDigest()).toBe(programsDigest())
  })
})

describe('the applets', () => {
  const applets = entries.filter(({ name }) => name.startsWith('bin/') && name !== 'bin/')

  it('are names of the busybox, in a folder of their own', () => {
    expect(entries[0]).toMatchObject({ name: 'bin/', type: 'directory', mode: 0o755 })
    for (const { name, type, linkname } of applets) {
      expect({ type, linkname }, name).toEqual({ type: 'symlink', linkname: '../busybox' })
      expect(name).toMatch(/^bin\/[a-z0-9]+$/)
    }
  })

  it('are each there once, with a shell among them', () => {
    const names = applets.map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
    expect(names).toEqual(expect.arrayContaining(['bin/sh', 'bin/cat', 'bin/ls', 'bin/tar', 'bin/df']))
  })

  it('are all that there is beside the programs and the file of hosts', () => {
    expect(entries.length).toBe(1 + applets.length + programs.length + 1)
  })
})
