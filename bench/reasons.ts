/** Why a goal is not reached, as far as it was found out: by row, told below the table while it is not reached. */
export const REASONS: Readonly<Record<string, string>> = {
  P1: 'in a run that was traced, one of twice the time, 18 ms passed from the hand-off to the end of its process, 96 until the engine told of that, which takes down task and mounts first, 25 until its wait returned, and 28 for the look at /output and the stored end',
  P2: 'by the same bare calls, and with the removal, the hardened container took 1.11 of what the bare one did (option by option none stands out); beside it the output is attached to before the start, and /output looked at before and after (some 18 ms in a run that was traced)',
  P4: 'by the same bare calls the hardened container reaches 0.97 of the rival; what the rival does not do (attaching, two looks at /output, an inspect, a volume) and the service itself, on the cores that the engine uses as well, were not measured apart',
  P5: 'of 709 ms of one that was traced, a slow one, the engine took 443 to start the container, 84 to make the network, and 78 for an exec, through which a probe goes, since the network of a session has no address of the host; 19 to make the container, and some 85 for all other calls and the service',
  'P6 first':
    'this engine samples one container at once, sleeps a second, and then takes 0.2 to 0.4 s for the other 49',
  P7: 'a read takes 81 µs of the processor where bare Fastify takes 46, and no part of what is done beside (checks, log, counts, headers, validation, the look-up) more than some 10',
  P9: 'lines of 1,000 bytes that came in one read were joined, which copies each; since that is left to short ones it is 1.13, in a run of P9 alone',
  'P9 memory': 'the same: 29 MiB since, in that run',
  P10: 'Node itself takes 50 ms, loading the build 160 to 230, and 250 go into routes and their schemas, the store, and the first calls to the engine',
  'P10 full':
    'beside what an empty start takes, the whole database is read once, to find one that is spoiled before it is used, and every container is looked at',
  'P11 idle':
    "some 50 MiB are pages of Node's own binary, 24 V8's heap right after a collection, 7 the text of the build and of Node's modules; the rest is SQLite, malloc and V8 itself. Bare Fastify takes 72",
  'P11 runs':
    'no leak: what is alive after a collection is the same after 1,000 runs as after 4,000. Most is what V8 has not collected yet: 98 to 159 MiB, and 23 to 26 in those of the runs in which it had, when a few idle seconds more had passed',
  P12: 'not found out: 27 to 57 MiB in the runs of these days',
}
