/** Why a goal is not reached, as far as it was found out: by row, told below the table while it is not reached. */
export const REASONS: Readonly<Record<string, string>> = {
  P1: 'of 55 ms of one that was traced, 5 passed until the hand-off, 42 from there until the engine told of the end, which takes down task and mounts first, and 8 until the answer',
  P5: 'of 558 ms of one that was traced, the engine took 422 to start the container, 72 to make the network and 15 to make the container, one after the other; all other calls and the service took 49. By the same three calls alone, ours took 438 ms and those of testcontainers 519 (medians of 12)',
  P6: 'not found out: 4.2 ms in each of the two whole runs before',
  'P6 first':
    'this engine samples one container at once, sleeps a second, and then takes 0.2 to 0.4 s for the other 49',
  P7: 'a read takes 81 µs of the processor where bare Fastify takes 46, and no part of what is done beside (checks, log, counts, headers, validation, the look-up) more than some 10',
  P10: 'Node itself takes 50 ms, loading the build 160 to 230, and 250 go into routes and their schemas, the store, and the first calls to the engine',
  'P10 full':
    'beside what an empty start takes, the whole database is read once, to find one that is spoiled before it is used, and every container is looked at',
  P11: 'not found out: 0.97, 0.98 and 1.00 in three runs of the same two days',
  'P11 idle':
    "some 50 MiB are pages of Node's own binary, 24 V8's heap right after a collection, 7 the text of the build and of Node's modules; the rest is SQLite, malloc and V8 itself. Bare Fastify takes 72",
  'P11 runs':
    'counted from where memory is once what the start left was collected; it was 28.6 from a higher place, in a run before. No leak: what is alive after a collection is the same after 1,000 runs as after 4,000. In a process that was looked at, 9 MiB of what had come to it after 2,500 runs and a collection were V8’s heap, 2 its code, and 13 the heap of malloc, which keeps what has been freed between what is in use',
}
