# shellcheck shell=bash
# How set-up speaks.

say() { printf 'setup: %s\n' "$*"; }

# Ends set-up: the first argument says what is wrong, the others, a line each, what to do about it.
fail() {
  printf 'setup: %s\n' "$1" >&2
  shift
  [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
  exit 1
}

# Runs a command whose output matters only where it fails.
quietly() {
  local log status=0
  log=$(mktemp)
  # A daemon that a command leaves running must not hold the lock of set-up, which is descriptor 9.
  "$@" >"$log" 2>&1 </dev/null 9>&- || status=$?
  [ "$status" -eq 0 ] || tail -n 30 "$log" >&2
  rm -f "$log"
  return "$status"
}
