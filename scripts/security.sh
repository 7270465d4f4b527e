#!/usr/bin/env bash
# The security suite: `npm run test:security` takes what fits into some minutes, and `npm run test:security --
# --full` the full numbers. Each number can be set by its variable; SECURITY_SEED replays a failure. What was
# counted goes to .cache/security.jsonl, and with `npm run test:security:counts` from there to
# docs/SECURITY.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/node_modules/.bin:$PATH"

is_full=false
options=()
for option in "$@"; do
  if [ "$option" = --full ]; then is_full=true; else options+=("$option"); fi
done

# number NAME FULL BOUNDED: sets a variable to one of the two, unless it is set already.
number() {
  local name=$1
  if $is_full; then export "$name=${!name:-$2}"; else export "$name=${!name:-$3}"; fi
}
number SECURITY_FIELDS 100000 6000
number SECURITY_IDS 10000 2000
number SECURITY_SWAPS 10000 200
number SECURITY_SPARSE_GIB 10 1
number SECURITY_FUZZ 100000 100000
number SECURITY_FRAMES 5000 500
number SECURITY_LOOKUPS 1000 200
number SECURITY_FLOOD_SECONDS 60 5
number SECURITY_BOMB_SECONDS 20 4
number SECURITY_DECOYS 1000 60
number FAULTS_REPLIES 10000 10000

mkdir -p .cache
: >.cache/security.jsonl
exec vitest run --config test/security/vitest.config.ts "${options[@]}"
