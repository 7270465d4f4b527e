# shellcheck shell=bash
# The ip command, for the tests that stand up another machine beside the engine: Debian's iproute2.

ensure_iproute() {
  command -v ip >/dev/null && return
  command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ] || fail 'the tests of what workers reach need the ip command' \
    'Install it (Debian and Ubuntu have it as iproute2), or run this as root there.'
  say 'installing iproute2 with apt-get'
  export DEBIAN_FRONTEND=noninteractive
  quietly apt-get update || fail 'apt-get update failed' 'Its words are above; is the package mirror reachable?'
  quietly apt-get install -y --no-install-recommends iproute2 ||
    fail 'apt-get could not install iproute2' 'Its words are above.'
}
