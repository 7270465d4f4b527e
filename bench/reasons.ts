/** Why a goal is not reached, as far as it was found out: by row, told below the table while it is not reached. */
export const REASONS: Readonly<Record<string, string>> = {
  P1: 'from the hand-off to the end of its process a run takes some 20 ms; the engine tells of that end 95 ms later, since it takes down task and mounts first, and the look at /output, which waits for that as well, and the stored end take 20 more',
  P2: 'by the same bare calls, and with the removal, the hardened container takes 1.11 of what the bare one does (option by option none stands out); beside it the output is attached to before the start, and /output looked at before and after (20 ms)',
  P4: 'by the same bare calls the hardened container reaches 0.97 of the rival; the rest goes into what the rival does not do (attaching, two looks at /output, an inspect, a volume), and into the service itself, on the cores that the engine uses as well',
  P5: 'of 710 ms the engine takes 440 to start the container, 85 to make the network, and 75 for an exec, through which a probe goes, since the network of a session has no address of the host; 20 to make the container, and some 80 for all other calls and the service',
  'P6 first':
    'this engine samples one container at once, sleeps a second, and then takes 0.2 to 0.4 s for the other 49',
  P7: 'a read takes 81 µs of the processor where bare Fastify takes 46, and no part of what is done beside (checks, log, counts, headers, validation, the look-up) more than some 10',
  'P9 memory': 'what is read from the engine is in buffers outside the heap, which V8 frees when it collects',
  P10: 'Node itself takes 50 ms, loading the build 160 to 230, and 250 go into routes and their schemas, the store, and the first calls to the engine',
  'P10 full':
    'beside what an empty start takes, the whole database is read once, to find one that is spoiled before it is used, and every container is looked at',
  'P11 idle':
    "55 MiB are pages of Node's own binary, 25 V8's heap right after a collection, 8 the text of the build and of Node's modules; the rest is SQLite, malloc and V8 itself. Bare Fastify takes 70",
  'P11 runs':
    'no leak: what is alive after a collection is the same after 1,000 runs as after 4,000; the heap of malloc grew with the first runs and was not given back',
  P12: 'in memory are an id, a session and a priority of each run; the rest is what SQLite, the log and V8 keep for the next ones',
}
