#!/usr/bin/env bash
# Puts Node (the package that runs this project), npm (from the registry, kept in CACHE_DIR) and this
# machine's certificate authorities beside the Dockerfile in folder $1.
set -euo pipefail
context=$1

# Of the line that Node 24 ships with.
readonly NPM_VERSION=11.6.2

cp -L node_modules/.bin/node "$context/node"

package=npm-$NPM_VERSION.tgz
if [ ! -f "$CACHE_DIR/$package" ]; then
  echo "setup: fetching npm $NPM_VERSION for the Node image of the tests"
  npm pack "npm@$NPM_VERSION" --pack-destination "$context" --loglevel=error >/dev/null
  mv "$context/$package" "$CACHE_DIR/$package"
fi
mkdir "$context/npm" "$context/certs"
tar -C "$context/npm" --strip-components=1 -xzf "$CACHE_DIR/$package"

[ ! -f /etc/ssl/certs/ca-certificates.crt ] || cp -L /etc/ssl/certs/ca-certificates.crt "$context/certs"
