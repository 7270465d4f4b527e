/** Why a goal is not reached, as far as it was found out: by row, told below the table while it is not reached. */
export const REASONS: Readonly<Record<string, string>> = {
  P1: 'not found out: of a hand-off on this machine most of the time passes between the end of the tool and the moment when the engine tells of it',
  P4: 'not found out: four runs at once here, as many as the engine starts best on two quiet cores, against sixteen of the rival; and each run is a hardened one (P2)',
  'P6 first':
    'this engine samples one container at once, sleeps a second, and then takes 0.2 to 0.4 s for the other 49',
  P2: 'not found out in parts: the container is a hardened one, with a volume for /output, a tmpfs, an init, limits and a log of bounded size, none of which the rival asks for, and it is attached to before its start and looked at after its end',
  P5: 'a probe goes through an exec in the container, since the network of a session has no address of the host; an exec takes some 40 ms here on a quiet machine',
  P7: 'a read takes 81 µs of the processor where bare Fastify takes 46, and no part of what is done beside (checks, log, counts, headers, validation, the look-up) more than some 10; with few rounds V8 is also still compiling the service while it is measured: warm for five rounds it was 0.62',
  'P9 memory': 'not found out: with the default young generation of V8 it was 92 MiB, with one of 4 MiB it is this',
  P10: 'most of the time goes into loading modules: stripping the types of the source (a third), and dockerode with its gRPC and SSH parts, undici and zod',
  'P10 full':
    'beside loading modules (P10), the whole database is read once, to find one that is spoiled before it is used, and every container is looked at',
  'P11 idle':
    'Node alone takes 45 MiB; zod, Fastify, dockerode (its SSH part alone 16) and undici take 60, the routes and their schemas 20, the stripper of types 15 to 20',
  'P11 runs':
    'not found out: no leak, since what is alive after a collection is 40 MiB after 1,000 runs as after 4,000; with the default young generation of V8 it was 244 MiB',
  P12: 'not found out: with the default young generation of V8 it was 147 MiB',
}
