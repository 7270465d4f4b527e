import { describe, expect, it } from 'vitest'
import { parseGroup, parsePasswd } from '../../../src/managers/image-users.ts'

describe('parsePasswd', () => {
  it('reads who there is, and where they are at home', () => {
    const text = `root:x:0:0:root:/root:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
dev:x:1000:100:Dev Eloper,,,:/home/dev:/bin/sh
`
    expect([...parsePasswd(text)]).toEqual([
      ['root', { uid: 0, gid: 0, home: '/root' }],
      ['nobody', { uid: 65534, gid: 65534, home: undefined }],
      ['www-data', { uid: 33, gid: 33, home: '/var/www' }],
      ['dev', { uid: 1000, gid: 100, home: '/home/dev' }],
    ])
  })

  it.each(['', '/', '/nonexistent', 'home/dev', '~'])('takes "%s" for no home', (home) => {
    expect(parsePasswd(`dev:x:1000:1000::${home}:/bin/sh`).get('dev')).toEqual({
      uid: 1000,
      gid: 1000,
      home: undefined,
    })
  })

  it('takes the first of a name, as the system does', () => {
    expect(parsePasswd('a:x:1:1::/a:\na:x:0:0::/b:\n').get('a')).toEqual({ uid: 1, gid: 1, home: '/a' })
  })

  it.each([
    '',
    '\n\n',
    '# comment',
    'dev',
    'dev:x',
    'dev:x:1000',
    'dev:x:1000:',
    'dev:x::1000::/home/dev:',
    'dev:x:-1:1000::/home/dev:',
    'dev:x:1e3:1000::/home/dev:',
    'dev:x: 1000:1000::/home/dev:',
    'dev:x:12345678901:1000::/home/dev:',
    ':x:1000:1000::/home/dev:',
    '+::::::',
  ])('passes over %j', (line) => {
    expect([...parsePasswd(`${line}\nok:x:7:7::/ok:\n`).keys()]).toEqual(['ok'])
  })

  it('needs neither a shell nor a last line end, and knows no prototype', () => {
    const users = parsePasswd('dev:x:1000:1000')
    expect(users.get('dev')).toEqual({ uid: 1000, gid: 1000, home: undefined })
    expect(users.get('constructor')).toBeUndefined()
    expect(parsePasswd('__proto__:x:5:5::/p:').get('__proto__')).toEqual({ uid: 5, gid: 5, home: '/p' })
  })
})

describe('parseGroup', () => {
  it('reads the numbers of groups, the first of a name', () => {
    const text = 'root:x:0:\nstaff:x:50:dev,ops\ndocker::999\nstaff:x:51:\n'
    expect([...parseGroup(text)]).toEqual([
      ['root', 0],
      ['staff', 50],
      ['docker', 999],
    ])
  })

  it.each(['', 'staff', 'staff:x:', 'staff:x:-5:', 'staff:x:five:', ':x:5:', '+:::'])('passes over %j', (line) => {
    expect([...parseGroup(`${line}\nok:x:7:\n`)]).toEqual([['ok', 7]])
  })
})
