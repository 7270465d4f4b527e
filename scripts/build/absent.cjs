/** Stands in the build for a package that is loaded and never used; whoever uses it is told so. */
module.exports = new Proxy(
  {},
  {
    get(_target, name) {
      // docker-modem asks ssh2 for it when it is loaded.
      if (name === 'Client') return undefined
      throw new Error(`${String(name)} belongs to a package that is not part of the build (rolldown.config.ts)`)
    },
  },
)
