/** Why a goal is not reached, as far as it was found out: by row, told below the table while it is not reached. */
export const REASONS: Readonly<Record<string, string>> = {
  P1: 'of 55 ms of one that was traced, 5 passed until the hand-off, 42 from there until the engine told of the end, which takes down task and mounts first, and 8 until the answer',
  P5: 'of 415 ms of one that was traced, the engine took 306 to start the container, 59 to make the network and 11 to make the container, one after the other, and all other calls and the service 40. What the engine starts is more than the rival’s: without the init process it took 21 ms less, and without the tmpfs on /tmp 13 (medians of 12)',
  P6: 'the machine: 1.9, 2.1, 4.2 and 5.1 ms in whole runs in which bare Fastify started in 278, 327, 360 and 440',
  'P6 first':
    'this engine samples one container at once, sleeps a second, and then takes 0.2 to 0.4 s for the other 49',
  P7: 'of the processor’s time in a profile of reads a fifth goes into the writing to sockets, as with bare Fastify; of what is done beside, collections take 4 %, headers 2, the look-up, the time of the log line and the id of the request about 1 each',
  P10: 'Node itself takes 50 ms, loading the build 160 to 230, and 250 go into routes and their schemas, the store, and the first calls to the engine',
  'P10 full':
    'beside what an empty start takes, the whole database is read once, to find one that is spoiled before it is used, and every container is looked at',
  P11: 'chance: 0.99 and 1.00 by 60 pairs each on a quiet machine, in which no part of a run differed by more than 3.2 ms of 168 and 179; 0.97 to 1.09 by 20',
  'P11 idle':
    "some 50 MiB are pages of Node's own binary, 24 V8's heap right after a collection, 7 the text of the build and of Node's modules; the rest is SQLite, malloc and V8 itself. Bare Fastify takes 72",
  'P11 runs':
    'counted from where memory is once what the start left was collected; it was 28.6 from a higher place, in a run before. No leak: what is alive after a collection is the same after 1,000 runs as after 4,000. In a process that was looked at, 9 MiB of what had come to it after 2,500 runs and a collection were V8’s heap, 2 its code, and 13 the heap of malloc, which keeps what has been freed between what is in use',
}
