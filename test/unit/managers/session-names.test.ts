import { describe, expect, it } from 'vitest'
import { type NameBearer, SessionNames } from '../../../src/managers/session-names.ts'
import { type Profile, STRICT } from '../../../src/policy/profiles.ts'
import { thrown } from '../support/streams.ts'

const ONLINE: Profile = {
  ...STRICT,
  name: 'Online',
  egress: { hosts: ['api.example.org', '*.mirror.test'], ports: [443], privateRanges: [] },
}

const relic = (name: string, rest: Partial<NameBearer> = {}): NameBearer => ({
  sessionId: 's',
  name,
  kind: 'relic',
  path: `/containers/relic/relic_of_${name}`,
  containerName: null,
  containerId: null,
  ...rest,
})
const worker = (name: string, rest: Partial<NameBearer> = {}) =>
  relic(name, { kind: 'worker', path: `/containers/worker/${name}`, ...rest })

const DB = relic('db', { containerName: 'relic_db_s_0a1b2c3d', containerId: 'c0ffee00c0ff'.padEnd(64, '0') })

function namesWith(...bearers: NameBearer[]): SessionNames {
  const names = new SessionNames(new Map([STRICT, ONLINE].map((profile) => [profile.name, profile])))
  names.count({ namesIn: (session) => bearers.filter(({ sessionId }) => sessionId === session) })
  return names
}

describe('a name in a session', () => {
  it.each([
    ['of a relic', relic('db', { path: '/containers/relic/other' })],
    ['of a relic, for a worker', worker('db')],
    ['in capitals', worker('DB')],
    ['with a dot behind it', worker('db.')],
    ["that is another's container", worker(DB.containerName ?? '')],
    ["that is another's container, by the host name it has", worker('c0ffee00c0ff')],
    ['that is a container of whatever is next', worker('tool_x_s_0a1b2c3d')],
    ['of a network', worker('db.session_s')],
    ['of the proxy of a profile', worker('egress-online')],
    ['of a host of a profile', relic('API.example.org')],
    ['of a host beneath one of a profile', relic('deb.mirror.test')],
  ])('is refused as a conflict: one %s', (_, bearer) => {
    expect(thrown(() => namesWith(DB).requireFree(bearer))).toMatchObject({
      code: 'conflict',
      details: { hint: expect.stringContaining('another') },
    })
  })

  it.each([
    ['that nobody has', worker('web')],
    ['of its own, asked for again', DB],
    ['that another session has', worker('db', { sessionId: 't' })],
    ['that only begins like a container', worker('worker_1')],
    ['that only begins like a proxy', worker('egress-other')],
    ['beside those of a profile', relic('example.org')],
  ])('is free: one %s', (_, bearer) => {
    expect(namesWith(DB).requireFree(bearer)).toBeUndefined()
  })

  it('says whose it is', () => {
    expect(thrown(() => namesWith(DB).requireFree(worker('db')))).toMatchObject({ details: { instance: DB.path } })
  })

  it('is held for one that is being started again, until that is over', () => {
    const names = namesWith()
    const release = names.hold(DB)
    expect(thrown(() => names.hold(worker('db')))).toMatchObject({ code: 'conflict' })
    release()
    names.hold(worker('db'))
    expect(thrown(() => names.hold(DB))).toMatchObject({ code: 'conflict' })
  })

  it('is held until the last of two that hold it for one thing lets go', () => {
    const names = namesWith()
    const [first, second] = [names.hold(DB), names.hold(DB)]
    first()
    first()
    expect(thrown(() => names.hold(worker('db')))).toMatchObject({ code: 'conflict' })
    second()
    expect(names.requireFree(worker('db'))).toBeUndefined()
  })
})
