#!/usr/bin/env bash
# The fault suite: `npm run test:faults`, or with `-- --full` at its full numbers, which takes hours.
# FAULTS_KILLS sets the number of kills, FAULTS_SEED replays a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/node_modules/.bin:$PATH"

readonly FULL_KILLS=2000
options=()
for option in "$@"; do
  if [ "$option" = --full ]; then export FAULTS_KILLS=${FAULTS_KILLS:-$FULL_KILLS}; else options+=("$option"); fi
done
exec vitest run --config test/faults/vitest.config.ts "${options[@]}"
