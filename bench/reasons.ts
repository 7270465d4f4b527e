/** Why a goal is not reached, as far as it was found out: by row, told below the table while it is not reached. */
export const REASONS: Readonly<Record<string, string>> = {
  P2: 'the container is a hardened one: with a volume for /output, a tmpfs, an init, limits and a log of bounded size, none of which the rival asks for; and it is attached to before its start, and looked at after its end',
  P5: 'a probe goes through an exec in the container, since the network of a session has no address of the host; testcontainers asks through a published port',
  P7: 'beside what bare Fastify does, each request is held to its Host, its caller, the bounds on heads and bodies, gets the headers of helmet, is counted and logged',
  'P9 memory':
    'V8 lets its young generation grow while much passes through, and gives little of it back; what is alive is a few MiB',
  P10: 'most of the time goes into loading modules: stripping the types of the source (a third), and dockerode with its gRPC and SSH parts, undici and zod',
  'P10 full':
    'beside loading modules (P10), the whole database is read once, to find one that is spoiled before it is used, and every container is looked at',
  'P11 idle':
    'Node alone takes 45 MiB; zod, Fastify, dockerode (its SSH part alone 16) and undici take 60, the routes and their schemas 20, the stripper of types 15 to 20',
  'P11 runs':
    'V8 lets its young generation grow under load, and gives little of it back: what is alive after a collection is 40 MiB, after 1,000 runs as after 4,000',
  P12: 'V8 lets its young generation grow while ten thousand requests pass through, and gives little of it back',
}
