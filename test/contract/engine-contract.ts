/**
 * What every engine promises, in the words of src/engine/engine.ts: one suite, run on the in-memory
 * engine and on real ones. Where engines may differ, a capability says so; nothing is skipped.
 */
import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { extract, pack } from 'tar-stream'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Engine, ImageInfo, OutputChunk } from '../../src/engine/engine.ts'
import type { ContainerSpec } from '../../src/engine/spec.ts'
import { EngineError } from '../../src/errors.ts'

export interface ContractSubject {
  engine: Engine
  /** An image with a static shell, echo, printf, cat, sleep and env. */
  image: string
  /** Ends a process as the kernel does for lack of memory, within 32 MiB. */
  oomCommand: readonly string[]
  /** A reference that cannot be pulled, and the fault that tells so. */
  unpullable: { reference: string; fault: 'image_not_found' | 'pull_failed' }
  close(): Promise<void>
}

const MIB = 1024 * 1024
const BOUNDS = { memoryBytes: 64 * MIB, cpus: 1, network: 'none' } as const

export function describeEngineContract(name: string, open: () => Promise<ContractSubject>): void {
  describe(`engine contract: ${name}`, () => {
    let subject: ContractSubject
    let engine: Engine
    let image: ImageInfo
    const run = randomUUID()
    const label = { 'engine-contract-run': run }

    beforeAll(async () => {
      subject = await open()
      engine = subject.engine
      const present = await engine.images.inspect(subject.image)
      if (present === undefined) throw new Error(`${subject.image} is not on the engine`)
      image = present
    })
    afterEach(async () => {
      for (const container of await engine.containers.list(label)) await engine.containers.remove(container.id)
      for (const network of await engine.networks.list(label)) await engine.networks.remove(network.id)
      for (const volume of await engine.volumes.list(label)) await engine.volumes.remove(volume.name)
      for (const id of await engine.images.list(label)) await engine.images.remove(id)
    })
    afterAll(async () => {
      await subject?.close()
    })

    const spec = (change: Partial<ContainerSpec> = {}): ContainerSpec => ({
      name: `contract-${randomUUID()}`,
      imageId: image.id,
      command: ['true'],
      environment: {},
      labels: label,
      openStdin: false,
      resources: { memoryBytes: 64 * MIB, cpus: 1, pids: 32, openFiles: { soft: 256, hard: 256 } },
      sandbox: { readonlyRoot: true, capabilities: [], tmpfs: [] },
      mounts: [],
      network: { mode: 'none' },
      ports: [],
      ...change,
    })
    const sh = (script: string) => ['sh', '-c', script]
    const create = (change: Partial<ContainerSpec> = {}) => engine.containers.create(spec(change))
    const started = async (change: Partial<ContainerSpec> = {}) => {
      const id = await create(change)
      await engine.containers.start(id)
      return id
    }
    /** Runs a container to its end: its output and its state. */
    const finished = async (change: Partial<ContainerSpec>, stdin?: string) => {
      const id = await create({ ...change, openStdin: stdin !== undefined })
      const attachment = await engine.containers.attach(id, { stdin: stdin !== undefined })
      await engine.containers.start(id)
      if (stdin !== undefined) attachment.stdin.end(stdin)
      const output = await collect(attachment.output)
      await engine.containers.wait(id)
      const state = await engine.containers.inspect(id)
      if (state === undefined) throw new Error('the container vanished')
      return { id, state, ...output }
    }

    describe('connect', () => {
      it('tells what the engine is and can do', async () => {
        const info = await engine.connect()
        expect(info).toMatchObject({
          name: expect.any(String),
          version: expect.any(String),
          apiVersion: expect.stringMatching(/^1\.\d+$/),
        })
        expect(info.cores).toBeGreaterThan(0)
        expect(info.memoryBytes).toBeGreaterThan(0)
        expect(typeof info.capabilities.gpu).toBe('boolean')
        expect(typeof info.capabilities.oneShotStats).toBe('boolean')
        await engine.ping()
      })
    })

    describe('a container', () => {
      it('has an id of 64 hex digits, the labels it was given, and runs only once started', async () => {
        const id = await create({ labels: { ...label, purpose: 'contract' } })
        expect(id).toMatch(/^[0-9a-f]{64}$/)
        const state = await engine.containers.inspect(id)
        expect(state).toMatchObject({ id, status: 'created', imageId: image.id, labels: { purpose: 'contract' } })
        expect(state?.startedAt).toBeUndefined()
        expect(state?.finishedAt).toBeUndefined()
      })

      it('tells whose it is, what it may use and what is mounted in it', async () => {
        const volume = `contract-${randomUUID()}`
        await engine.volumes.create(volume, label)
        const id = await create({
          user: '1000:1000',
          resources: { memoryBytes: 32 * MIB, cpus: 0.5, pids: 24, openFiles: { soft: 256, hard: 256 } },
          mounts: [{ type: 'volume', source: volume, target: '/data', readOnly: false }],
        })
        const state = await engine.containers.inspect(id)
        expect(state).toMatchObject({ user: '1000:1000', limits: { memoryBytes: 32 * MIB, cpus: 0.5, pids: 24 } })
        expect(state?.mounts).toMatchObject([{ target: '/data', volume }])
      })

      it('gives all of its output, by stream and in order, to who attached before the start', async () => {
        const { stdout, stderr, state } = await finished({ command: sh('echo one; echo two >&2; echo three; exit 3') })
        expect({ stdout, stderr }).toEqual({ stdout: 'one\nthree\n', stderr: 'two\n' })
        expect(state).toMatchObject({ status: 'exited', exitCode: 3, oomKilled: false })
        // Docker stamps the start of a very short process some milliseconds after its end.
        expect(state.startedAt).toBeInstanceOf(Date)
        expect(state.finishedAt).toBeInstanceOf(Date)
      })

      it('reads stdin to its end', async () => {
        const input = `${'line of input\n'.repeat(2000)}ü🎉`
        expect((await finished({ command: ['cat'] }, input)).stdout).toBe(input)
      })

      it('gets its environment byte for byte', async () => {
        const value = `quotes " ' $HOME \\ ü🎉 = and\nanother line`
        expect((await finished({ command: sh('printf %s "$VALUE"'), environment: { VALUE: value } })).stdout).toBe(
          value,
        )
      })

      it('replaces the entrypoint, and drops the image’s command with it', async () => {
        expect((await finished({ entrypoint: ['echo', 'entry'], command: ['command'] })).stdout).toBe('entry command\n')
      })

      it('tells a command that does not exist by exit code 127 or a start that fails', async () => {
        const outcome = await finished({ command: ['/no/such/program'] }).catch((error: unknown) => error)
        if (outcome instanceof EngineError) expect(outcome.fault).toBe('start_failed')
        else expect(outcome).toMatchObject({ state: { exitCode: 127 } })
      })

      it('tells a kill for memory', async () => {
        const { capabilities } = await engine.connect()
        const resources = { memoryBytes: 32 * MIB, cpus: 1, pids: 32, openFiles: { soft: 256, hard: 256 } }
        const { state } = await finished({ command: subject.oomCommand, resources })
        expect(state).toMatchObject({ exitCode: 137, oomKilled: capabilities.oomFlag })
      })

      it('takes another name, running or not, that is not taken', async () => {
        const [id, other] = [await create(), await started({ command: ['sleep', '600'] })]
        const renamed = `contract-${randomUUID()}`
        await engine.containers.rename(other, renamed)
        expect((await engine.containers.inspect(other))?.name).toBe(renamed)
        await expect(engine.containers.rename(id, renamed)).rejects.toMatchObject({ fault: 'conflict' })
      })

      it('refuses a taken name as a conflict', async () => {
        const name = `contract-${randomUUID()}`
        await create({ name })
        await expect(create({ name })).rejects.toMatchObject({ fault: 'conflict' })
      })

      it('refuses an image that is not there', async () => {
        await expect(create({ imageId: `sha256:${'0'.repeat(64)}` })).rejects.toBeInstanceOf(EngineError)
      })

      it('is gone once removed, running or not; removing it again is no error', async () => {
        for (const id of [await create(), await started({ command: ['sleep', '600'] })]) {
          expect(await engine.containers.remove(id)).toBe(true)
          expect(await engine.containers.inspect(id)).toBeUndefined()
          expect(await engine.containers.remove(id)).toBe(false)
        }
      })

      it('is listed by exact labels alone', async () => {
        const mine = await create({ labels: { ...label, owner: 'a' } })
        const other = await create({ labels: { ...label, owner: 'ab' } })
        const listed = await engine.containers.list({ ...label, owner: 'a' })
        expect(listed.map(({ id }) => id)).toEqual([mine])
        expect(listed[0]).toMatchObject({ status: 'created', imageId: image.id, labels: { owner: 'a' } })
        expect((await engine.containers.list(label)).map(({ id }) => id).toSorted()).toEqual([mine, other].toSorted())
      })
    })

    describe('ends', () => {
      it('wait answers at once where the container has ended before', async () => {
        const id = await started({ command: ['true'] })
        await engine.containers.wait(id)
        await engine.containers.wait(id)
        expect((await engine.containers.inspect(id))?.status).toBe('exited')
      })

      it('wait rejects on abort, and leaves the container running', async () => {
        const id = await started({ command: ['sleep', '600'] })
        await expect(engine.containers.wait(id, AbortSignal.timeout(200))).rejects.toBeInstanceOf(EngineError)
        expect((await engine.containers.inspect(id))?.status).toBe('running')
      })

      it('stop ends the process, and is no error on a stopped or absent container', async () => {
        const id = await started({ command: ['sleep', '600'] })
        await engine.containers.stop(id, 10)
        const state = await engine.containers.inspect(id)
        expect(state?.status).toBe('exited')
        expect(state?.exitCode).toBe(143)
        await engine.containers.stop(id, 10)
        await engine.containers.remove(id)
        await engine.containers.stop(id, 10)
      })

      it('kill ends the process with 137, and tells where there was none', async () => {
        const id = await started({ command: ['sleep', '600'] })
        expect(await engine.containers.kill(id)).toBe(true)
        await engine.containers.wait(id)
        expect(await engine.containers.inspect(id)).toMatchObject({ status: 'exited', exitCode: 137, oomKilled: false })
        expect(await engine.containers.kill(id)).toBe(false)
        await engine.containers.remove(id)
        expect(await engine.containers.kill(id)).toBe(false)
      })

      it('a stopped container starts again, with a new start time', async () => {
        const id = await started({ command: sh('echo run') })
        await engine.containers.wait(id)
        const first = await engine.containers.inspect(id)
        await engine.containers.start(id)
        await engine.containers.wait(id)
        const second = await engine.containers.inspect(id)
        expect(second?.startedAt?.getTime()).toBeGreaterThan(first?.startedAt?.getTime() ?? Number.POSITIVE_INFINITY)
      })
    })

    describe('logs', () => {
      it('answer what was written after the end, all of it or the last lines', async () => {
        const { id } = await finished({ command: sh('echo a; echo b >&2; sleep 0.2; echo c') })
        expect(await collect(engine.containers.logs(id, { follow: false }))).toEqual({
          stdout: 'a\nc\n',
          stderr: 'b\n',
        })
        expect(await collect(engine.containers.logs(id, { follow: false, tail: 1 }))).toMatchObject({ stdout: 'c\n' })
        expect(await collect(engine.containers.logs(id, { follow: true }))).toMatchObject({ stdout: 'a\nc\n' })
      })

      it('keep output that ends without a line end as it is', async () => {
        const { id } = await finished({ command: sh('printf "no end"') })
        expect((await collect(engine.containers.logs(id, { follow: false }))).stdout).toBe('no end')
      })

      it('follow until the container ends', async () => {
        const id = await started({ command: sh('echo first; sleep 0.5; echo last') })
        expect((await collect(engine.containers.logs(id, { follow: true }))).stdout).toBe('first\nlast\n')
        expect((await engine.containers.inspect(id))?.status).toBe('exited')
      })

      it('end quietly on abort', async () => {
        const id = await started({ command: ['sleep', '600'] })
        expect(await collect(engine.containers.logs(id, { follow: true, signal: AbortSignal.timeout(300) }))).toEqual({
          stdout: '',
          stderr: '',
        })
      })
    })

    describe('stats', () => {
      it('come while the container runs, grow, and end with it', async () => {
        const id = await started({ command: ['sleep', '600'] })
        const abort = new AbortController()
        const samples = []
        for await (const sample of engine.containers.stats(id, abort.signal)) {
          samples.push(sample)
          if (samples.length === 2) await engine.containers.kill(id)
        }
        expect(samples.length).toBeGreaterThanOrEqual(2)
        const [first, second] = samples
        expect(first?.memoryLimitBytes).toBe(64 * MIB)
        expect(first?.memoryBytes).toBeGreaterThan(0)
        expect(second?.at.getTime()).toBeGreaterThan(first?.at.getTime() ?? Number.POSITIVE_INFINITY)
        expect(second?.cpuNanoseconds).toBeGreaterThanOrEqual(first?.cpuNanoseconds ?? Number.POSITIVE_INFINITY)
      })

      it('come while the container is frozen', async () => {
        const id = await started({ command: ['sleep', '600'] })
        await engine.containers.pause(id)
        const abort = new AbortController()
        let samples = 0
        for await (const { memoryBytes } of engine.containers.stats(id, abort.signal)) {
          expect(memoryBytes).toBeGreaterThan(0)
          if (++samples === 2) abort.abort()
        }
        expect(samples).toBe(2)
        await engine.containers.resume(id)
      })

      it('are also given one by one, of a container that runs', async () => {
        const id = await create({ command: ['sleep', '600'] })
        expect(await engine.containers.sample(id)).toBeUndefined()
        await engine.containers.start(id)
        const first = await engine.containers.sample(id)
        expect(first).toMatchObject({ memoryLimitBytes: 64 * MIB, at: expect.any(Date) })
        expect(first?.memoryBytes).toBeGreaterThan(0)
        const second = await engine.containers.sample(id)
        expect(second?.cpuNanoseconds).toBeGreaterThanOrEqual(first?.cpuNanoseconds ?? Number.POSITIVE_INFINITY)
        await engine.containers.remove(id)
        expect(await engine.containers.sample(id)).toBeUndefined()
      })
    })

    describe('files', () => {
      const volume = (target: string, source?: string) => ({
        type: 'volume' as const,
        target,
        readOnly: false,
        ...(source === undefined ? {} : { source }),
      })

      it('go in before the start and come out after the end, through a volume', async () => {
        const id = await create({
          mounts: [volume('/data')],
          command: sh('cat /data/in/x > /data/out; echo more > /data/more'),
        })
        await engine.containers.writeArchive(id, '/data', tarOf({ 'in/x': 'content ü' }))
        expect(await engine.containers.statPath(id, '/data/in/x')).toMatchObject({
          name: 'x',
          bytes: 10,
          isDirectory: false,
        })
        await engine.containers.start(id)
        await engine.containers.wait(id)
        expect(await engine.containers.statPath(id, '/data')).toMatchObject({ name: 'data', isDirectory: true })
        expect(await engine.containers.statPath(id, '/data/absent')).toBeUndefined()
        expect(await filesOf(await engine.containers.readArchive(id, '/data'))).toEqual({
          'data/in/x': 'content ü',
          'data/out': 'content ü',
          'data/more': 'more\n',
        })
        expect(await filesOf(await engine.containers.readArchive(id, '/data/more'))).toEqual({ more: 'more\n' })
        await expect(engine.containers.readArchive(id, '/data/absent')).rejects.toMatchObject({ fault: 'not_found' })
      })

      it('cannot be put into a read-only root', async () => {
        const id = await create()
        await expect(engine.containers.writeArchive(id, '/tmp', tarOf({ x: 'y' }))).rejects.toBeInstanceOf(EngineError)
        const { state, stderr } = await finished({ command: sh('echo x > /file') })
        expect(state.exitCode).not.toBe(0)
        expect(stderr).toContain('Read-only')
      })

      it('in a tmpfs can be written, and are gone after the end', async () => {
        const sandbox = { readonlyRoot: true, capabilities: [], tmpfs: [{ target: '/tmp', bytes: MIB }] }
        const { id, stdout } = await finished({ sandbox, command: sh('echo kept > /tmp/x; cat /tmp/x') })
        expect(stdout).toBe('kept\n')
        expect(await engine.containers.statPath(id, '/tmp/x')).toBeUndefined()
      })

      it('in a named volume outlive the container, and others see them', async () => {
        const source = `contract-${randomUUID()}`
        await engine.volumes.create(source, label)
        const first = await finished({ mounts: [volume('/v', source)], command: sh('echo shared > /v/x') })
        await engine.containers.remove(first.id)
        expect((await finished({ mounts: [volume('/other', source)], command: sh('cat /other/x') })).stdout).toBe(
          'shared\n',
        )
        const readOnly = await finished({
          mounts: [{ ...volume('/v', source), readOnly: true }],
          command: sh('echo y > /v/y'),
        })
        expect(readOnly.state.exitCode).not.toBe(0)
      })
    })

    describe('exec', () => {
      it('runs a command in a running container, with stdin, output and an exit code', async () => {
        const id = await started({ command: ['sleep', '600'] })
        const exec = await engine.containers.exec(id, { command: ['cat'], stdin: true })
        exec.stdin.end('through exec')
        expect(await collect(exec.output)).toEqual({ stdout: 'through exec', stderr: '' })
        await expect.poll(() => exec.inspect(), { timeout: 5_000 }).toEqual({ running: false, exitCode: 0 })
        const failing = await engine.containers.exec(id, { command: sh('echo bad >&2; exit 4'), stdin: false })
        expect(await collect(failing.output)).toEqual({ stdout: '', stderr: 'bad\n' })
        await expect.poll(() => failing.inspect(), { timeout: 5_000 }).toEqual({ running: false, exitCode: 4 })
      })

      it('is refused where the container does not run', async () => {
        await expect(
          engine.containers.exec(await create(), { command: ['true'], stdin: false }),
        ).rejects.toBeInstanceOf(EngineError)
      })
      it('has the variables it is given beside the container’s, and a user', async () => {
        const id = await started({ command: ['sleep', '600'], environment: { A: 'container', B: 'container' } })
        const exec = await engine.containers.exec(id, {
          command: sh('echo "$A $B"'),
          stdin: false,
          user: '1234:1234',
          environment: { B: 'exec' },
        })
        expect((await collect(exec.output)).stdout).toBe('container exec\n')
      })

      it('in a paused container is refused until that is resumed', async () => {
        const id = await started({ command: ['sleep', '600'] })
        await engine.containers.pause(id)
        await engine.containers.pause(id)
        expect((await engine.containers.inspect(id))?.status).toBe('paused')
        await expect(engine.containers.exec(id, { command: ['true'], stdin: false })).rejects.toMatchObject({
          fault: 'conflict',
        })
        await engine.containers.resume(id)
        await engine.containers.resume(id)
        const exec = await engine.containers.exec(id, { command: sh('echo awake'), stdin: false })
        expect((await collect(exec.output)).stdout).toBe('awake\n')
      })
    })

    describe('commit', () => {
      it('makes an image that says what it is told to, with labels of its own and no values of the container', async () => {
        const id = await started({ command: ['sleep', '600'], environment: { SECRET: 'value' } })
        const reference = `contract-${run}:committed`
        const imageId = await engine.containers.commit(id, {
          reference,
          labels: { ...label, made: 'by commit' },
          entrypoint: [],
          command: ['echo', 'committed'],
          user: '1234',
          workingDir: '/tmp',
          blankVariables: ['SECRET'],
        })
        const committed = await engine.images.inspect(reference)
        expect(committed).toMatchObject({
          id: imageId,
          command: ['echo', 'committed'],
          user: '1234',
          workingDir: '/tmp',
        })
        expect(committed?.environment).toContain('SECRET=')
        expect((await finished({ imageId, command: sh('echo started') })).stdout).toBe('started\n')
        for (const { id: container } of await engine.containers.list(label)) await engine.containers.remove(container)
      })
    })

    describe('health', () => {
      it('is what the check in the container says, after as many failures as asked', async () => {
        const healthcheck = (script: string) => ({
          command: sh(script),
          intervalSeconds: 0.1,
          timeoutSeconds: 5,
          retries: 2,
        })
        const well = await started({ command: ['sleep', '600'], healthcheck: healthcheck('echo fine') })
        const ill = await started({ command: ['sleep', '600'], healthcheck: healthcheck('echo broken; exit 3') })
        const health = async (id: string) => (await engine.containers.inspect(id))?.health
        await expect.poll(async () => (await health(well))?.status, { timeout: 10_000 }).toBe('healthy')
        await expect.poll(async () => (await health(ill))?.status, { timeout: 10_000 }).toBe('unhealthy')
        expect((await health(ill))?.failingStreak).toBeGreaterThanOrEqual(2)
        expect((await health(ill))?.checks.at(-1)).toMatchObject({ output: 'broken\n', at: expect.any(Date) })
        expect(await health(await started({ command: ['sleep', '600'] }))).toBeUndefined()
      })
    })

    describe('networks', () => {
      // One range for each engine and run: others use the same engine.
      const octet = 100 + Math.floor(Math.random() * 90)
      const network = (change: object = {}) => ({
        name: `contract-${randomUUID()}`,
        subnet: `10.190.${octet}.0/27`,
        internal: true,
        labels: label,
        ...change,
      })

      it('are made with their range, listed by exact labels and gone once removed', async () => {
        const wanted = network()
        const id = await engine.networks.create(wanted)
        expect(id).toMatch(/^[0-9a-f]{64}$/)
        expect(await engine.networks.inspect(id)).toMatchObject({
          id,
          name: wanted.name,
          internal: true,
          subnets: [wanted.subnet],
          labels: label,
        })
        expect((await engine.networks.list(label)).map((item) => item.id)).toEqual([id])
        expect(await engine.networks.remove(id)).toBe(true)
        expect(await engine.networks.inspect(id)).toBeUndefined()
        expect(await engine.networks.remove(id)).toBe(false)
      })

      it('refuse a taken name and an overlapping range', async () => {
        const wanted = network()
        await engine.networks.create(wanted)
        await expect(
          engine.networks.create(network({ name: wanted.name, subnet: `10.190.${octet}.64/27` })),
        ).rejects.toMatchObject({ fault: 'conflict' })
        await expect(engine.networks.create(network())).rejects.toMatchObject({ fault: 'subnet_overlap' })
      })

      it('give a running container an address, and cannot be removed while one is attached', async () => {
        const networkId = await engine.networks.create(network())
        const id = await started({
          command: ['sleep', '600'],
          network: { mode: 'network', networkId, aliases: ['alias'] },
        })
        const state = await engine.containers.inspect(id)
        expect(state?.networks).toMatchObject([
          { networkId, address: expect.stringMatching(/^10\.190\.\d+\.\d+$/), gateway: expect.any(String) },
        ])
        expect((await engine.networks.inspect(networkId))?.containers).toEqual([id])
        await expect(engine.networks.remove(networkId)).rejects.toBeInstanceOf(EngineError)
        await engine.networks.disconnect(networkId, id)
        await engine.networks.disconnect(networkId, id)
        expect(await engine.networks.remove(networkId)).toBe(true)
      })

      it('take a container that does not run yet in beside its own', async () => {
        const further = (third: number) =>
          network({ name: `contract-${randomUUID()}`, subnet: `10.189.${octet}.${third}/27` })
        const [own, joined] = [await engine.networks.create(further(0)), await engine.networks.create(further(32))]
        const id = await create({
          command: ['sleep', '600'],
          network: { mode: 'network', networkId: own, aliases: [] },
        })
        await engine.networks.connect(joined, id, ['second'])
        await engine.containers.start(id)
        const networks = (await engine.containers.inspect(id))?.networks ?? []
        expect(networks.map(({ networkId }) => networkId).sort()).toEqual([own, joined].sort())
        for (const { address } of networks) expect(address).toMatch(/^10\.189\.\d+\.\d+$/)
        expect((await engine.networks.inspect(joined))?.containers).toEqual([id])
      })

      it('take a running container in, also one that has left its own', async () => {
        const further = (third: number) =>
          network({ name: `contract-${randomUUID()}`, subnet: `10.189.${octet}.${third}/27` })
        const [own, joined] = [await engine.networks.create(further(0)), await engine.networks.create(further(32))]
        const id = await started({
          command: ['sleep', '600'],
          network: { mode: 'network', networkId: own, aliases: [] },
        })
        await engine.networks.disconnect(own, id)
        expect((await engine.containers.inspect(id))?.networks).toEqual([])
        expect(await engine.networks.remove(own)).toBe(true)
        await engine.networks.connect(joined, id, [])
        const networks = (await engine.containers.inspect(id))?.networks ?? []
        expect(networks.map(({ networkId }) => networkId)).toEqual([joined])
        expect(networks[0]?.address).toMatch(/^10\.189\.\d+\.\d+$/)
      })
    })

    describe('images', () => {
      it('are found by reference and by id, and told where absent', async () => {
        expect(await engine.images.inspect(image.id)).toEqual(image)
        expect(image.id).toMatch(/^sha256:[0-9a-f]{64}$/)
        expect(await engine.images.inspect('contract/absent:1')).toBeUndefined()
      })

      it('that cannot be pulled are told as such', async () => {
        const { reference, fault } = subject.unpullable
        await expect(engine.images.pull(reference, {})).rejects.toMatchObject({ fault })
      })

      it('are built from a context, with labels and output', async () => {
        let output = ''
        const context = tarOf({ Dockerfile: `FROM ${subject.image}\nENV BUILT=yes\n` })
        const tag = `contract-${run}:built`
        const id = await engine.images.build({
          context,
          tag,
          labels: label,
          bounds: BOUNDS,
          onOutput: (part) => (output += part),
        })
        expect((await engine.images.inspect(tag))?.id).toBe(id)
        expect(output).toContain('FROM')
        expect(await engine.images.list(label)).toEqual([id])
        expect(await engine.images.remove(id)).toBe(true)
        expect(await engine.images.remove(id)).toBe(false)
      })

      it('that come and go are told of, from when the engine has agreed to', async () => {
        const over = new AbortController()
        const changes = (await engine.images.changes(over.signal))[Symbol.asyncIterator]()
        const tag = `contract-${run}:changed`
        const context = tarOf({ Dockerfile: `FROM ${subject.image}\nENV CHANGED=yes\n` })
        const id = await engine.images.build({ context, tag, labels: label, bounds: BOUNDS })
        expect((await changes.next()).done).toBe(false)
        await engine.images.remove(id)
        expect((await changes.next()).done).toBe(false)
        over.abort()
        // What was told before may still be read.
        for (let ended = false; !ended; ) ended = (await changes.next()).done === true
      })

      it('that fail to build tell the step and its output', async () => {
        const context = tarOf({ Dockerfile: `FROM ${subject.image}\nRUN false\n` })
        const failure = await engine.images
          .build({ context, tag: `contract-${run}:broken`, labels: label, bounds: BOUNDS })
          .catch((error: unknown) => error)
        expect(failure).toMatchObject({
          fault: 'build_failed',
          details: { logsTail: expect.stringContaining('false') },
        })
        expect(await engine.images.inspect(`contract-${run}:broken`)).toBeUndefined()
      })
    })

    describe('volumes', () => {
      it('are made once, listed by labels and removed', async () => {
        const name = `contract-${randomUUID()}`
        await engine.volumes.create(name, label)
        await engine.volumes.create(name, label)
        expect(await engine.volumes.inspect(name)).toMatchObject({ name, labels: label })
        expect((await engine.volumes.list(label)).map((volume) => volume.name)).toEqual([name])
        expect(await engine.volumes.remove(name)).toBe(true)
        expect(await engine.volumes.remove(name)).toBe(false)
        expect(await engine.volumes.inspect(name)).toBeUndefined()
      })

      it('tell where their files are, one of which may become the hosts of a container without a network', async () => {
        const source = `contract-${randomUUID()}`
        await engine.volumes.create(source, label)
        const mounts = [{ type: 'volume', source, target: '/v', readOnly: false }] as const
        const filler = await create({ mounts })
        await engine.containers.writeArchive(filler, '/v', tarOf({ hosts: '127.0.0.1\tlocalhost\n' }))
        const { mountpoint } = (await engine.volumes.inspect(source)) ?? {}
        expect(mountpoint).toMatch(/^\/.+/)
        const command = ['cat', '/etc/hosts']
        const { stdout } = await finished({ command, network: { mode: 'none', hostsFile: `${mountpoint}/hosts` } })
        expect(stdout).toBe('127.0.0.1\tlocalhost\n')
        expect((await finished({ command })).stdout).toMatch(/^127\.0\.0\.1\s+localhost$/m)
        const missing = create({ network: { mode: 'none', hostsFile: `${mountpoint}/gone` } })
        await expect(missing).rejects.toMatchObject({ fault: 'invalid' })
        await engine.containers.remove(filler)
      })

      it('in use cannot be removed', async () => {
        const source = `contract-${randomUUID()}`
        await engine.volumes.create(source, label)
        const id = await create({ mounts: [{ type: 'volume', source, target: '/v', readOnly: false }] })
        await expect(engine.volumes.remove(source)).rejects.toMatchObject({ fault: 'conflict' })
        await engine.containers.remove(id)
        expect(await engine.volumes.remove(source)).toBe(true)
      })
    })

    it('tells what happens to the containers that are asked for, from when it has agreed to', async () => {
      const over = new AbortController()
      const events = await engine.events({ ...label, followed: 'yes' }, over.signal)
      const other = await engine.containers.create(spec())
      const id = await engine.containers.create(spec({ labels: { ...label, followed: 'yes' } }))
      await engine.containers.start(id)
      await engine.containers.wait(id)
      await engine.containers.remove(id)
      const told: { containerId: string; action: string }[] = []
      for await (const { containerId, action, at } of events) {
        expect(Math.abs(at.getTime() - Date.now())).toBeLessThan(60_000)
        told.push({ containerId, action })
        if (action === 'destroy') break
      }
      over.abort()
      expect(new Set(told.map(({ containerId }) => containerId))).toEqual(new Set([id]))
      const actions = told.map(({ action }) => action)
      expect(actions.filter((action) => ['create', 'start', 'die', 'destroy'].includes(action))).toEqual([
        'create',
        'start',
        'die',
        'destroy',
      ])
      expect(await engine.containers.remove(other)).toBe(true)
    })

    it('remembers what it made', async () => {
      const id = await engine.containers.create(spec())
      const createdAt = (await engine.containers.inspect(id))?.createdAt ?? new Date(0)
      expect(await engine.remembersMaking({ id, createdAt })).toBe(true)
      await engine.containers.start(id)
      await engine.containers.wait(id)
      expect(await engine.remembersMaking({ id, createdAt })).toBe(true)
      const longAgo = new Date(createdAt.getTime() - 3_600_000)
      expect(await engine.remembersMaking({ id: 'a'.repeat(64), createdAt: longAgo })).toBe(false)
    })

    it('ends the telling of events with its owner, and says that it is available', async () => {
      const over = new AbortController()
      const events = await engine.events(label, over.signal)
      setTimeout(() => over.abort(), 20)
      for await (const event of events) throw new Error(`nothing should happen, but ${event.action} did`)
      expect(engine.availability.isAvailable).toBe(true)
      expect(engine.availability.lostAt).toBeUndefined()
    })

    it('refuses ids that are not 64 hex digits, before anything is sent', async () => {
      const { containers, networks } = engine
      for (const id of [
        '',
        'abc',
        '..%2Fimages%2Fjson',
        '../..',
        'A'.repeat(64),
        `${'a'.repeat(64)}/json`,
        'g'.repeat(64),
      ]) {
        for (const call of [
          () => engine.remembersMaking({ id, createdAt: new Date() }),
          () => containers.inspect(id),
          () => containers.start(id),
          () => containers.stop(id, 1),
          () => containers.kill(id),
          () => containers.remove(id),
          () => containers.wait(id),
          () => containers.sample(id),
          () => containers.attach(id, { stdin: false }),
          () => collect(containers.logs(id, { follow: false })),
          () => containers.statPath(id, '/'),
          () => containers.readArchive(id, '/'),
          () => containers.exec(id, { command: ['true'], stdin: false }),
          () => networks.inspect(id),
          () => networks.remove(id),
          () => networks.disconnect(id, 'a'.repeat(64)),
        ]) {
          await expect(call(), `${call}: ${id}`).rejects.toMatchObject({ fault: 'invalid' })
        }
      }
    })
  })
}

async function collect(chunks: AsyncIterable<OutputChunk>): Promise<{ stdout: string; stderr: string }> {
  const parts = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
  for await (const { stream, bytes } of chunks) parts[stream].push(Buffer.from(bytes))
  return { stdout: Buffer.concat(parts.stdout).toString('utf8'), stderr: Buffer.concat(parts.stderr).toString('utf8') }
}

function tarOf(files: Record<string, string>): Readable {
  const tar = pack()
  for (const [name, content] of Object.entries(files)) tar.entry({ name }, content)
  tar.finalize()
  return Readable.from(tar)
}

async function filesOf(tar: Readable): Promise<Record<string, string>> {
  const entries = extract()
  tar.pipe(entries)
  const files: Record<string, string> = {}
  for await (const entry of entries) {
    const content = await text(Readable.from(entry))
    if (entry.header.type === 'file') files[entry.header.name] = content
  }
  return files
}
