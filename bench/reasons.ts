/** Why a goal is not reached, as far as it was found out: by row, told below the table while it is not reached. */
export const REASONS: Readonly<Record<string, string>> = {
  P7: 'each answer is a query built by Kysely, a record parsed, checked against its schema and written again, a line in the log and the headers of helmet; bare Fastify does none of it',
  'P9 memory':
    'V8 lets its young generation grow while much passes through, and gives little of it back; what is alive is a few MiB',
  P10: 'most of the time goes into loading modules: stripping the types of the source (a third), and dockerode with its gRPC and SSH parts, Kysely, undici and zod',
  'P10 full':
    'beside loading modules (P10), the whole database is read once, to find one that is spoiled before it is used, and every container is looked at',
  'P11 idle':
    'Node alone takes 45 MiB; zod, Fastify, dockerode, Kysely and undici take 60, the routes and their schemas 20, the stripper of types 15 to 20',
  'P11 runs':
    'V8 lets its young generation grow under load, and gives little of it back: what is alive after a collection is 40 MiB, after 1,000 runs as after 4,000',
  P12: 'V8 lets its young generation grow while ten thousand requests pass through, and gives little of it back',
}
