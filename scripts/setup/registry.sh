# shellcheck shell=bash
# An image registry on this machine, for the tests that pull: Debian's docker-registry, installed and
# not started. The tests start it themselves, on 127.0.0.1.

ensure_registry() {
  command -v docker-registry >/dev/null && return
  command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ] || fail 'the tests that pull need docker-registry' \
    'Install it (Debian and Ubuntu have it as docker-registry), or run this as root there.'
  say 'installing docker-registry with apt-get'
  export DEBIAN_FRONTEND=noninteractive
  quietly apt-get update || fail 'apt-get update failed' 'Its words are above; is the package mirror reachable?'
  quietly apt-get install -y --no-install-recommends docker-registry ||
    fail 'apt-get could not install docker-registry' 'Its words are above.'
}
