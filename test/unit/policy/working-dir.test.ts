import { describe, expect, it } from 'vitest'
import { isClosedWorkingDir, requireWorkingDir } from '../../../src/policy/working-dir.ts'
import { thrown } from '../support/streams.ts'

describe('a working directory', () => {
  it.each(['/', '', '/app', 'app', '/process', '/srv/proc', '/system', '/devices', '/app/../srv'])(
    'may be "%s"',
    (path) => {
      expect(isClosedWorkingDir(path)).toBe(false)
      expect(requireWorkingDir({ workingDir: path })).toBeUndefined()
    },
  )

  it.each(['/proc', '/proc/', '/proc/self/fd/8', 'proc/self', '/a/../proc', '//sys', '/sys/fs', '/dev', '/dev/fd/3'])(
    'is not "%s"',
    (path) => {
      expect(isClosedWorkingDir(path)).toBe(true)
      expect(thrown(() => requireWorkingDir({ workingDir: path }))).toMatchObject({
        code: 'policy_denied',
        message: expect.stringContaining(`"${path}"`),
        details: { rule: 'working_dir', hint: expect.stringContaining('WORKDIR') },
      })
    },
  )
})
