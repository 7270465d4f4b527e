/** node:http without an import of it, which would read its WebSocket and with that load Node's own undici. */
module.exports = process.getBuiltinModule('node:http')
