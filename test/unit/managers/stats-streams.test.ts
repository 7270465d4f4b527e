import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { StatsStreams } from '../../../src/managers/stats-streams.ts'
import { UsageMeter } from '../../../src/managers/usage-meter.ts'
import { ScriptedStats, sampleAt } from '../../fixtures/scripted-stats.ts'

const [A, B] = ['a', 'b']
const forever = new AbortController().signal
let engine: ScriptedStats
let streams: StatsStreams

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance'] })
  engine = new ScriptedStats()
  streams = new StatsStreams({ containers: engine, oneShot: false })
})
afterEach(() => {
  streams.close()
  vi.useRealTimers()
})

const settled = () => vi.advanceTimersByTimeAsync(0)
const seconds = (count: number) => vi.advanceTimersByTimeAsync(count * 1_000)

/** Opens it, and answers when its stream is listened to. */
async function wanted(id: string) {
  const feed = streams.feed(id)
  feed.want()
  await settled()
  return feed
}

describe('a stats stream', () => {
  it('is one for all who ask', async () => {
    const feed = await wanted(A)
    for (let second = 0; second < 5; second++) {
      streams.feed(A).want()
      engine.tell(A, second)
      await settled()
    }
    const meter = new UsageMeter(streams, A)
    await seconds(1)
    engine.tell(A, 5, { memoryBytes: 3 * 1024 ** 2 })
    await settled()
    expect(meter.stop()).toMatchObject({ samples: 1, cpu_seconds: 5, memory_peak_mb: 3 })
    expect(engine.opened).toEqual([A])
    expect(feed.samples.length).toBe(6)
  })

  it('is closed when nobody has asked for 30 seconds, and opened again by the next', async () => {
    const feed = await wanted(A)
    engine.tell(A, 0)
    await seconds(25)
    expect(engine.open).toContain(A)
    feed.want()
    await seconds(29)
    expect(engine.open).toContain(A)
    await seconds(10)
    expect(engine.open.size).toBe(0)
    await wanted(A)
    expect(engine.opened).toEqual([A, A])
  })

  it('stays open for as long as the history that somebody asked for', async () => {
    streams.feed(A).want(600_000)
    streams.feed(A).want()
    await seconds(595)
    expect(engine.open).toContain(A)
    await seconds(15)
    expect(engine.open.size).toBe(0)
  })

  it('stays open while a run is metered, however long', async () => {
    const meter = new UsageMeter(streams, A)
    await seconds(7_200)
    expect(engine.open).toContain(A)
    engine.tell(A, 0)
    await settled()
    meter.stop()
    await seconds(10)
    expect(engine.open.size).toBe(0)
    expect(streams.known(A)?.samples.length).toBe(1)
  })

  it('is not opened for a run that ends at once', async () => {
    expect(new UsageMeter(streams, A).stop()).toBeNull()
    await seconds(1)
    expect(engine.opened).toEqual([])
  })

  it('keeps what it brought over its end, and lets go of it with the container, or an hour after the last question', async () => {
    const feed = await wanted(A)
    engine.tell(A, 0)
    await settled()
    engine.end(A)
    await seconds(60)
    expect(streams.known(A)).toBe(feed)
    expect(feed.isOpen).toBe(false)
    await wanted(A)
    engine.tell(A, 60)
    await settled()
    expect(feed.samples.length).toBe(2)
    await seconds(3_500)
    expect(streams.known(A)).toBe(feed)
    await seconds(200)
    expect(streams.known(A)).toBeUndefined()

    await wanted(B)
    engine.tell(B, 0)
    streams.forget(B)
    await settled()
    expect(streams.known(B)).toBeUndefined()
    expect(engine.open.size).toBe(0)
  })

  it('keeps 600 samples at most', async () => {
    const feed = await wanted(A)
    for (let second = 0; second < 700; second++) {
      engine.tell(A, second)
      await settled()
    }
    expect(feed.samples.length).toBe(600)
    expect(feed.samples.at(0)).toEqual(sampleAt(100))
    expect(feed.samples.at(-1)).toEqual(sampleAt(699))
  })

  it('breaks off without harm, and whoever waits for it is told', async () => {
    const feed = await wanted(A)
    const waiting = feed.until(2, forever)
    engine.end(A)
    await waiting
    expect(feed.isOpen).toBe(false)
    await feed.next(forever)
  })
})

describe('a first answer', () => {
  it('waits for two samples of each container, where the second comes within a second', async () => {
    const feeds = [await wanted(A), await wanted(B)]
    const done = vi.fn()
    void streams.ready(feeds).then(done)
    engine.tell(A, 0)
    engine.tell(B, 0)
    await seconds(1)
    engine.tell(A, 1)
    await settled()
    expect(done).not.toHaveBeenCalled()
    engine.tell(B, 1)
    await settled()
    expect(done).toHaveBeenCalled()
    // From now on there is nothing to wait for.
    await streams.ready(feeds)
  })

  it('does not wait for a second sample that would come too late', async () => {
    const feeds = [await wanted(A), await wanted(B)]
    const done = vi.fn()
    void streams.ready(feeds).then(done)
    await seconds(0.5)
    engine.tell(A, 0)
    await settled()
    expect(done).not.toHaveBeenCalled()
    engine.tell(B, 0)
    await settled()
    expect(done).toHaveBeenCalled()
  })

  it('is given without what does not come in its time', async () => {
    const done = vi.fn()
    void streams.ready([await wanted(A)]).then(done)
    engine.tell(A, 0)
    await seconds(1.2)
    expect(done).toHaveBeenCalledTimes(1)
    void streams.ready([await wanted(B)]).then(done)
    await seconds(2.4)
    expect(done).toHaveBeenCalledTimes(1)
    await seconds(0.2)
    expect(done).toHaveBeenCalledTimes(2)
  })

  it('waits for no container that has ended', async () => {
    const feeds = [await wanted(A)]
    engine.end(A)
    await settled()
    await streams.ready(feeds)
  })

  describe('of an engine that gives single samples at once', () => {
    beforeEach(() => {
      vi.useRealTimers()
      streams.close()
      streams = new StatsStreams({ containers: engine, oneShot: true })
    })
    const opened = async (id: string) => {
      const feed = streams.feed(id)
      feed.want()
      await vi.waitFor(() => expect(engine.open).toContain(id))
      return feed
    }

    it('takes two of them, and not the stream’s of the same moment', async () => {
      engine.singles.push(sampleAt(0), sampleAt(0.25))
      const feed = await opened(A)
      await feed.until(1, forever)
      engine.tell(A, 0.01)
      await streams.ready([feed])
      expect([feed.samples.at(0), feed.samples.at(1)]).toEqual([sampleAt(0), sampleAt(0.25)])
      engine.tell(A, 1)
      await vi.waitFor(() => expect(feed.samples.length).toBe(3))
      expect(engine.opened).toEqual([A])
    })

    it('takes none for a run’s meter, which waits for its stream', async () => {
      engine.singles.push(sampleAt(0))
      const meter = new UsageMeter(streams, A)
      await vi.waitFor(() => expect(engine.open).toContain(A))
      engine.tell(A, 1)
      await streams.feed(A).until(1, forever)
      expect(meter.stop()).toMatchObject({ samples: 1 })
      expect(engine.singles).toEqual([sampleAt(0)])
    })

    it('takes no second one where the stream was faster, and none of a container that does not run', async () => {
      engine.singles.push(undefined, sampleAt(9))
      const feed = await opened(A)
      engine.tell(A, 0)
      engine.tell(A, 1)
      await streams.ready([feed])
      await sleep(400)
      expect(engine.singles).toEqual([sampleAt(9)])
      expect(feed.samples.length).toBe(2)
    })
  })
})
