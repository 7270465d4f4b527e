/** The one class of undici that the service uses, made as its index makes it: without fetch, caches, cookies and sockets. */
Object.assign(require('undici/lib/dispatcher/dispatcher.js').prototype, require('undici/lib/api'))
exports.Pool = require('undici/lib/dispatcher/pool.js')
