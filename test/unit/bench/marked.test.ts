import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { replaceMarked } from '../../../scripts/marked.ts'

let folder: string
let page: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'co-marked-'))
  page = join(folder, 'page.md')
})

afterEach(() => rm(folder, { recursive: true }))

describe('the part of a page that a program writes', () => {
  it('is replaced, again and again, and nothing beside it', async () => {
    await writeFile(page, '# Page\n<!-- figures -->\nold\n<!-- /figures -->\nend\n')
    replaceMarked(page, 'figures', 'new $1\n')
    replaceMarked(page, 'figures', 'new $1\n')
    expect(await readFile(page, 'utf8')).toBe('# Page\n<!-- figures -->\n\nnew $1\n\n<!-- /figures -->\nend\n')
  })

  it('has to be there', async () => {
    await writeFile(page, '<!-- /figures --> <!-- figures -->')
    expect(() => replaceMarked(page, 'figures', 'new')).toThrow('has no <!-- figures --> and <!-- /figures -->')
  })
})
