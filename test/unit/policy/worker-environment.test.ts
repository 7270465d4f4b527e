import { describe, expect, it } from 'vitest'
import {
  identityEnvironment,
  identityNames,
  requireOwnVariables,
  requireUnreserved,
} from '../../../src/policy/worker-environment.ts'
import { thrown } from '../support/streams.ts'

const WHOLE = { workerId: 'w1', taskId: 'task 7', sessionId: 's1' }
const TREE = { gitDir: '/srv/main/.git/worktrees/one', commonDir: '/srv/main/.git' }

describe('identityEnvironment', () => {
  it('tells a worker who it is', () => {
    expect(identityEnvironment(WHOLE, undefined, [])).toEqual({
      WORKER_ID: 'w1',
      TASK_ID: 'task 7',
      SESSION_ID: 's1',
    })
  })

  it('has an empty value for what it has not, so that a shell with -u does not stop', () => {
    const identity = { workerId: 'w1', taskId: undefined, sessionId: undefined }
    expect(identityEnvironment(identity, undefined, ['ACME'])).toEqual({
      WORKER_ID: 'w1',
      TASK_ID: '',
      SESSION_ID: '',
      ACME_WORKER_ID: 'w1',
      ACME_TASK_ID: '',
      ACME_SESSION_ID: '',
    })
  })

  it('tells where git is for a worktree only, and all of it again under each prefix', () => {
    expect(identityEnvironment(WHOLE, TREE, ['ACME', 'X_Y'])).toEqual({
      WORKER_ID: 'w1',
      TASK_ID: 'task 7',
      SESSION_ID: 's1',
      GIT_WORKTREE_DIR: TREE.gitDir,
      GIT_MAIN_DIR: TREE.commonDir,
      ACME_WORKER_ID: 'w1',
      ACME_TASK_ID: 'task 7',
      ACME_SESSION_ID: 's1',
      ACME_GIT_WORKTREE_DIR: TREE.gitDir,
      ACME_GIT_MAIN_DIR: TREE.commonDir,
      X_Y_WORKER_ID: 'w1',
      X_Y_TASK_ID: 'task 7',
      X_Y_SESSION_ID: 's1',
      X_Y_GIT_WORKTREE_DIR: TREE.gitDir,
      X_Y_GIT_MAIN_DIR: TREE.commonDir,
    })
  })

  it('sets nothing that a caller could set too', () => {
    for (const name of Object.keys(identityEnvironment(WHOLE, TREE, ['ACME']))) {
      expect(thrown(() => requireOwnVariables({ [name]: 'x' }, ['ACME']))).toMatchObject({ code: 'validation_failed' })
    }
  })
})

describe('identityNames', () => {
  it('are all that may be set, under each prefix', () => {
    const set = Object.keys(identityEnvironment(WHOLE, TREE, ['ACME', 'X_Y']))
    expect(identityNames(['ACME', 'X_Y']).toSorted()).toEqual(set.toSorted())
  })
})

describe('requireOwnVariables', () => {
  it.each(['WORKER_ID', 'TASK_ID', 'SESSION_ID', 'GIT_WORKTREE_DIR', 'GIT_MAIN_DIR', '_w_program', '_w_'])(
    'refuses %s, by its name and never by its value',
    (name) => {
      const error = thrown(() => requireOwnVariables({ FINE: '1', [name]: 'the value' }, []))
      expect(error).toMatchObject({
        code: 'validation_failed',
        details: { errors: [{ path: `environment.${name}` }] },
      })
      expect((error as Error).message).toContain(name)
      expect((error as Error).message).not.toContain('the value')
    },
  )

  it('reserves the names under the prefixes that there are', () => {
    expect(thrown(() => requireOwnVariables({ ACME_TASK_ID: '' }, ['OTHER', 'ACME']))).toMatchObject({
      code: 'validation_failed',
    })
    expect(requireOwnVariables({ ACME_TASK_ID: '' }, [])).toBeUndefined()
    expect(requireOwnVariables({ ACME_TASK_ID: '' }, ['OTHER'])).toBeUndefined()
  })

  it.each(['PATH', 'HOME', 'worker_id', 'MY_WORKER_ID', 'WORKER_ID_2', 'GIT_DIR', '_W_x', 'x_w_', 'ACME_NAME'])(
    'lets a caller set %s',
    (name) => {
      expect(requireOwnVariables({ [name]: '1' }, ['ACME'])).toBeUndefined()
    },
  )
})

describe('requireUnreserved', () => {
  it("keeps the names of the service's programs from commands, and no others", () => {
    expect(requireUnreserved({ PATH: '/x', LD_PRELOAD: '/x.so', WORKER_ID: 'x', _W_x: '1', x_w_: '2' })).toBeUndefined()
    expect(thrown(() => requireUnreserved({ FINE: '1', _w_folder: 'x' }))).toMatchObject({
      code: 'validation_failed',
      message: 'environment._w_folder: _w_folder is set by the service',
      details: { errors: [{ path: 'environment._w_folder', message: '_w_folder is set by the service' }] },
    })
  })
})
