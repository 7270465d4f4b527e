#!/usr/bin/env bash
# Makes this checkout ready: `setup.sh start` for `npm start`, `test` for `npm test`, `bench` for `npm run bench`.
#
# Packages in step with the lock file, a container engine that answers, the images that are needed, a build
# in step with the sources.
# Each step does nothing where nothing is to do, says in one line what it does, and where it cannot,
# says what would help and ends with status 1. npm calls it before all three.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

purpose=${1:-}
case $purpose in
  start | test | bench) ;;
  *)
    echo 'usage: scripts/setup.sh start|test|bench' >&2
    exit 2
    ;;
esac

# Node comes with the packages; what starts an engine is in the folders of the administrator.
export PATH="$PWD/node_modules/.bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# shellcheck source=scripts/setup/say.sh
source scripts/setup/say.sh
# shellcheck source=scripts/setup/packages.sh
source scripts/setup/packages.sh
# shellcheck source=scripts/setup/build.sh
source scripts/setup/build.sh
# shellcheck source=scripts/setup/engine.sh
source scripts/setup/engine.sh
# shellcheck source=scripts/setup/commands.sh
source scripts/setup/commands.sh
# shellcheck source=scripts/setup/docker-py.sh
source scripts/setup/docker-py.sh

# One set-up at a time in a checkout; where there is no flock (macOS), that is for the user to see to.
{ mkdir -p .cache && : >>.cache/setup.lock; } 2>/dev/null ||
  fail "this user may not write to $PWD/.cache" 'Another user has run set-up in this checkout: give it to this one, or run as that user.'
if command -v flock >/dev/null; then
  exec 9>>.cache/setup.lock
  flock -n 9 || { say 'waiting for another set-up of this checkout' && flock 9; }
fi

ensure_packages

status=0
node scripts/images.ts "$purpose" || status=$?
if [ "$status" -eq 3 ]; then
  ensure_engine
  node scripts/images.ts "$purpose"
elif [ "$status" -ne 0 ]; then
  exit 1
fi

case $purpose in
  start) ensure_build ;;
  test) ensure_test_commands ;;
  bench)
    ensure_build
    ensure_docker_py
    ;;
esac
