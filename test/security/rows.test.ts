/** Each row of the table of threats has a test that shows it: here is which. Rows of the same proof share one. */
import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { VECTORS } from './support/vectors.ts'

const SECURITY = 'test/security'
const ROUTES = `${SECURITY}/access.test.ts`
const FIELDS = `${SECURITY}/fields.test.ts`
const VALUES = `${SECURITY}/values.test.ts`
const BOMBS = `${SECURITY}/bombs.test.ts`
const BEHAVIOUR = `${SECURITY}/behaviour.test.ts`
const MOUNTS = `${SECURITY}/mounts.test.ts`
const IMAGES = `${SECURITY}/images.test.ts`
const HOST = 'test/security/host-isolation.test.ts'
const REFUSED = 'refuses row $row'

/** By row: the file, and words of the test's name. */
const ROWS: Readonly<Record<number, readonly [file: string, words: string]>> = {
  1: [VALUES, 'row 1: what of the host is mounted'],
  2: [MOUNTS, 'row 2: a folder that is swapped'],
  3: [VALUES, 'row 3: a host path that is not there'],
  4: [FIELDS, REFUSED],
  5: [FIELDS, REFUSED],
  6: [VALUES, 'row 6: namespaces of others'],
  7: [VALUES, 'row 7: root by request'],
  8: [VALUES, 'row 8: devices by way of a GPU'],
  9: [FIELDS, REFUSED],
  10: [BEHAVIOUR, 'row 10: a log driver that calls out'],
  11: [BEHAVIOUR, 'row 11: a restart policy'],
  12: [VALUES, 'row 12: ports on other addresses'],
  13: [FIELDS, REFUSED],
  14: ['test/integration/networks.test.ts', 'are made once for calls at once'],
  15: [BEHAVIOUR, 'row 15: the name of a relic'],
  16: [HOST, 'gives nobody raw sockets'],
  17: [HOST, 'reaches no address of the host'],
  18: [HOST, 'no address of metadata services'],
  19: ['test/e2e/relics.test.ts', 'follows no redirect of a health endpoint'],
  20: [`${SECURITY}/identifiers.test.ts`, 'row 20: ids'],
  21: [FIELDS, REFUSED],
  22: [VALUES, 'row 22: keys that change what objects are'],
  23: [VALUES, 'row 23: deep and huge JSON'],
  24: [IMAGES, 'row 24: labels of images that spoof ours'],
  25: [BEHAVIOUR, 'survives each cleanup'],
  26: [IMAGES, 'row 26: an image that moves'],
  27: [IMAGES, 'row 27: what an image brings along'],
  28: [IMAGES, 'row 28: builds'],
  29: [MOUNTS, 'row 29: tars'],
  30: [VALUES, 'row 30: images from elsewhere'],
  31: [VALUES, 'row 31: working directories of the kernel'],
  32: [VALUES, 'row 32: variables'],
  33: ['test/e2e/keys.test.ts', 'is in no answer, log line, event, metric'],
  34: [ROUTES, 'row 34: each role on each route'],
  35: [BOMBS, '(row 35)'],
  36: [BEHAVIOUR, 'row 36: bytes that look like frames'],
  37: [BOMBS, '(row 37)'],
  38: [BOMBS, 'row: 38'],
  39: [BOMBS, '(row 39)'],
  40: [BOMBS, '(row 40)'],
  41: [ROUTES, 'rows 34 and 41: what is another’s'],
  42: ['test/unit/plugins/slow-callers.test.ts', 'that never ends is answered 408'],
  43: ['test/unit/plugins/host-check.test.ts', 'the page that a request comes from'],
  44: [HOST, 'and not this API'],
}

const COUNT = 44

describe('the table of threats', () => {
  it('has a test for each row', () => {
    expect(Object.keys(ROWS).map(Number)).toEqual(Array.from({ length: COUNT }, (_, at) => at + 1))
  })

  it.each(Object.entries(ROWS))('row %s is shown where it is said to be', async (row, [file, words]) => {
    expect(await readFile(file, 'utf8')).toContain(words)
    // One test for many rows: its vectors say which; row 21 is how each of them is spelt.
    if (words === REFUSED && row !== '21') expect(VECTORS.map((vector) => vector.row)).toContain(Number(row))
  })
})
