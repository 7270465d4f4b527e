# shellcheck shell=bash
# The npm packages of the lock file, Node 24 among them.

ensure_packages() {
  packages_in_step && return
  command -v npm >/dev/null || fail 'npm is missing' \
    "Install Node.js with npm, any version from 20 on: the one that runs the service comes as a package."
  say 'installing the npm packages of package-lock.json'
  # npm ci refuses a lock file that lacks the optional binaries of other platforms, which npm leaves
  # out where the registry does not have them; npm install takes it as it is.
  npm ci --no-audit --no-fund --loglevel=error >/dev/null 2>&1 </dev/null ||
    quietly npm install --no-save --no-audit --no-fund --loglevel=error ||
    fail 'the npm packages cannot be installed' "npm's own words are above; is the registry reachable?"
  packages_in_step || fail 'npm installed the packages, yet node_modules is not in step with package-lock.json' \
    'Remove node_modules and try again.'
}

# npm writes node_modules/.package-lock.json last of all: a lock file that is newer was not installed.
packages_in_step() {
  [ -x node_modules/.bin/node ] &&
    [ -f node_modules/.package-lock.json ] &&
    [ ! package-lock.json -nt node_modules/.package-lock.json ]
}
