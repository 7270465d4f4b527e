#!/usr/bin/env bash
# The fault suite: `npm run test:faults` takes a twentieth of the full numbers, `npm run test:faults --
# --part 60` a sixtieth, and `-- --full` all of them, which takes hours. Each number can be set by its variable; FAULTS_SEED replays a
# failure. What was counted goes to .cache/faults.jsonl, and with `npm run test:faults:counts` from there
# to docs/FAILURES.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/node_modules/.bin:$PATH"

part=20
options=()
while [ $# -gt 0 ]; do
  case $1 in
    --full) part=1 ;;
    --part)
      part=$2
      shift
      ;;
    *) options+=("$1") ;;
  esac
  shift
done

# full NAME COUNT: sets a variable to its part of the full count, unless it is set already.
full() {
  local name=$1 count=$2
  export "$name=${!name:-$(((count + part - 1) / part))}"
}
full FAULTS_KILLS 2000
full FAULTS_POINT_KILLS 25
full FAULTS_DAEMON_KILLS 300
full FAULTS_DAEMON_FREEZES 200
full FAULTS_CUTS 500
full FAULTS_SEQUENCES 10000
full FAULTS_REAL_SEQUENCES 500
full FAULTS_REPLIES 100000
full FAULTS_DECOYS 1000
full FAULTS_QUEUED 10000

mkdir -p .cache
: >.cache/faults.jsonl
exec vitest run --config test/faults/vitest.config.ts "${options[@]}"
