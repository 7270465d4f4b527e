import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ANYONE } from '../../../src/domain/caller.ts'
import { ConfigError } from '../../../src/errors.ts'
import { Store } from '../../../src/store/store.ts'
import { temporaryFolder } from '../support/folders.ts'
import { collect, rejection } from '../support/streams.ts'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

const STORE = new URL('../../../src/store/store.ts', import.meta.url).href

describe('Store.open', () => {
  it('makes its folder where it is missing, readable to its owner alone', async () => {
    const folder = join(await temporaryFolder(), 'deep', 'data')
    const store = await Store.open(folder)
    await store.close()
    expect((await readdir(folder)).filter((name) => !name.startsWith('store.sqlite-')).sort()).toEqual([
      'artifacts',
      'instance',
      'lease.sqlite',
      'spool',
      'store.sqlite',
    ])
    for (const path of [folder, join(folder, 'spool'), join(folder, 'artifacts')]) {
      expect((await stat(path)).mode & 0o777, path).toBe(0o700)
    }
  })

  it('keeps its instance id, its sessions and its output over a second start', async () => {
    const folder = await temporaryFolder()
    const first = await Store.open(folder)
    await first.sessions.touch('s1', ANYONE)
    await (await first.spools.open('exec_1')).append('stdout', Buffer.from('hello'))
    await first.close()
    const second = await Store.open(folder)
    expect(second.instance).toBe(first.instance)
    expect(second.instance).toMatch(UUID)
    expect(await second.sessions.get('s1')).toMatchObject({ session_id: 's1' })
    expect(await collect(second.spools.read('exec_1'))).toMatchObject([{ kind: 'stdout', text: 'hello' }])
    await second.close()
  })

  it('gives another installation another id', async () => {
    const stores = [await Store.open(await temporaryFolder()), await Store.open(await temporaryFolder())]
    expect(stores[0]?.instance).not.toBe(stores[1]?.instance)
    for (const store of stores) await store.close()
  })

  it('is had by one at a time: a second is refused until the first lets go', async () => {
    const folder = await temporaryFolder()
    const first = await Store.open(folder)
    const refused = await rejection(Store.open(folder))
    expect(refused).toBeInstanceOf(ConfigError)
    expect(String(refused)).toContain(`CO_DATA_DIR=${folder}`)
    await first.close()
    await (await Store.open(folder)).close()
  })

  it('is free again the moment that its process is killed', async () => {
    const folder = await temporaryFolder()
    const script = `import { Store } from ${JSON.stringify(STORE)}; await Store.open(${JSON.stringify(folder)}); console.log('open'); setInterval(() => {}, 1000)`
    const holder = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(holder.stdout, 'data')
    expect(await rejection(Store.open(folder))).toBeInstanceOf(ConfigError)
    holder.kill('SIGKILL')
    await once(holder, 'exit')
    await (await Store.open(folder)).close()
  })

  it('fails where its folder is a file', async () => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'file'), '')
    expect(await rejection(Store.open(join(folder, 'file')))).toMatchObject({ code: 'EEXIST' })
  })
})

describe('closing a store', () => {
  it('has all output on disk', async () => {
    const folder = await temporaryFolder()
    const store = await Store.open(folder)
    const writer = await store.spools.open('exec_1')
    void writer.append('stdout', Buffer.from('pending'))
    await store.close()
    expect(writer.closed).toBe(true)
    const again = await Store.open(folder)
    expect(await collect(again.spools.read('exec_1'))).toMatchObject([{ text: 'pending' }])
    await again.close()
  })
})

it('is for its own user alone, also in a folder that was open to others', async () => {
  const open = join(await temporaryFolder(), 'open')
  await mkdir(open, { mode: 0o755 })
  await chmod(open, 0o755)
  await writeFile(join(open, 'store.sqlite'), '', { mode: 0o644 })
  const store = await Store.open(open)
  const modes = await Promise.all(
    ['store.sqlite', 'store.sqlite-wal', 'store.sqlite-shm'].map(
      async (name) => (await stat(join(open, name))).mode & 0o777,
    ),
  )
  await store.close()
  expect(modes).toEqual([0o600, 0o600, 0o600])
})
